"""``python -m app check``: a row for each finding, and the exit status."""

import asyncio
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.cli.check.redis_access import access_rows, encryption_rows
from app.cli.table import CheckVerdict
from app.formatting import FETCH_FAULTS
from app.store.errors import WAITAOF_MISSING
from app.store.topology import connect
from app.tokens import fetch, provider_keys
from backchannel_logout.redis.connection import aclose
from tests.cli.conftest import Ended, Run
from tests.support.providers.provider import Provider
from tests.support.receiver import config, run_app
from tests.support.servers.redis_server import RedisServer, free_port

SECRET = "hunter2-is-my-password"


def rows(ended: Ended) -> dict[str, tuple[str, str]]:
    """The table: subject -> verdict and detail."""
    table = {}
    for line in ended.out.splitlines():
        if match := re.fullmatch(r"(ok|WRONG|\?) +(.*?)  +(.*)", line):
            table[match[2]] = (match[1], match[3])
    return table


def issuer(provider: Provider, *lines: str) -> str:
    return "\n".join([f'issuer = "{provider.issuer}"', *lines])


def test_without_a_fault_every_row_is_ok_and_the_exit_status_is_0(
    run: Run, provider: Provider, redis_server: RedisServer
) -> None:
    ended = run("check", config(redis_server.url, issuer(provider)))
    assert ended.status == 0
    assert ended.err == ""
    assert {verdict for verdict, _ in rows(ended).values()} == {"ok"}
    assert ended.out.endswith("\nnothing is wrong\n")
    table = rows(ended)
    assert table["settings"] == ("ok", "1 issuer; apps: shop")
    assert table[f"issuer {provider.issuer}"] == ("ok", "discovery: 1 key for RS256")
    assert f"redis 127.0.0.1:{redis_server.port}/0" in table
    assert table["redis role"] == ("ok", "primary")
    assert table["redis persistence"] == ("ok", "append-only file")
    assert table["redis eviction"] == ("ok", "noeviction")
    assert "canary" not in table


def test_the_canary_is_listed_with_its_app_and_its_interval(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    text = config(shared_redis.url, issuer(provider)) + '[canary]\napp = "bird"\ninterval = "5m"\n'
    table = rows(run("check", text))
    assert table["canary"] == ("ok", "app bird, each 5 min; how it goes, status says")


def test_the_columns_are_aligned(run: Run, provider: Provider, redis_server: RedisServer) -> None:
    ended = run("check", config(redis_server.url, issuer(provider)))
    details = [detail for _, detail in rows(ended).values()]
    lines = ended.out.splitlines()[: len(details)]
    assert len({len(line) - len(detail) for line, detail in zip(lines, details, strict=True)}) == 1


# -- providers -----------------------------------------------------------------------------


def _broken(**changes: object) -> Callable[[Provider], None]:
    def change(provider: Provider) -> None:
        for name, value in changes.items():
            setattr(provider, name, value)

    return change


PROVIDERS: dict[str, tuple[Callable[[Provider], None], str]] = {
    "discovery names another issuer": (
        _broken(discovery={"issuer": "https://other.example/"}),
        'discovery: discovery_issuer: it names "https://other.example/", the settings "http://127',
    ),
    "discovery names no keys": (
        _broken(discovery={"jwks_uri": None}),
        "discovery: discovery_jwks_uri: the document names no jwks_uri",
    ),
    "discovery names keys without TLS": (
        _broken(discovery={"jwks_uri": "http://keys.example/jwks"}),
        "discovery: not_https: names an address that is not https",
    ),
    "keys answer 500": (_broken(mode="500"), "discovery: http_500"),
    "keys redirect": (_broken(mode="redirect"), "discovery: http_302"),
    "keys are no JSON": (_broken(mode="rubbish"), "discovery: not_a_key_set: "),
    "keys are too large": (_broken(mode="large"), "discovery: too_large: "),
    "keys are compressed": (_broken(mode="gzip"), "discovery: content_encoding: "),
    "there are no keys": (_broken(mode="empty"), "discovery: not_a_key_set: "),
}


@pytest.mark.parametrize(("change", "detail"), PROVIDERS.values(), ids=PROVIDERS)
def test_a_misconfigured_provider_has_a_row(
    change: Callable[[Provider], None],
    detail: str,
    run: Run,
    provider: Provider,
    shared_redis: RedisServer,
) -> None:
    """The rows about Redis are there too."""
    change(provider)
    ended = run("check", config(shared_redis.url, issuer(provider)))
    assert ended.status == 1
    assert ended.err == ""
    verdict, text = rows(ended)[f"issuer {provider.issuer}"]
    assert (verdict, text[: len(detail)]) == ("WRONG", detail)
    assert rows(ended)["redis eviction"][0] == "ok"
    assert ended.out.endswith("\n1 fault\n")


def test_a_provider_that_is_down_has_a_row(run: Run, shared_redis: RedisServer) -> None:
    name = f"http://127.0.0.1:{free_port()}"
    ended = run("check", config(shared_redis.url, f'issuer = "{name}"'))
    assert ended.status == 1
    assert rows(ended)[f"issuer {name}"] == (
        "WRONG",
        "discovery: connection: cannot be reached",
    )


def test_keys_for_other_algorithms_only_are_wrong(run: Run, shared_redis: RedisServer) -> None:
    """The receiver would refuse every token of this provider."""
    with Provider(alg="ES256") as provider:
        ended = run("check", config(shared_redis.url, issuer(provider)))
        assert ended.status == 1
        verdict, text = rows(ended)[f"issuer {provider.issuer}"]
        assert verdict == "WRONG"
        assert text.startswith("discovery: 0 keys for RS256, 1 for other algorithms; ")
        fixed = issuer(provider, 'algorithms = ["RS256", "ES256"]')
        assert run("check", config(shared_redis.url, fixed)).status == 0


def test_skipped_keys_are_counted(run: Run, provider: Provider, shared_redis: RedisServer) -> None:
    provider.extra_jwks = [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "RSA", "use": "enc"}]
    ended = run("check", config(shared_redis.url, issuer(provider)))
    assert ended.status == 0
    assert ", 2 passed over (" in rows(ended)[f"issuer {provider.issuer}"][1]


def test_a_jwks_uri_is_fetched_without_discovery(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    provider.discovery = {"issuer": "https://other.example/"}
    lines = issuer(provider, f'jwks_uri = "{provider.origin}/jwks"')
    ended = run("check", config(shared_redis.url, lines))
    assert ended.status == 0
    assert rows(ended)[f"issuer {provider.issuer}"] == ("ok", "jwks_uri: 1 key for RS256")


def test_each_fault_of_a_fetch_has_a_sentence() -> None:
    """Those that the sources name, except HTTP statuses and internal errors."""
    sources = "".join(Path(module.__file__).read_text() for module in (fetch, provider_keys))
    raised = set(re.findall(r'FetchFailed\("(\w+)"[,)]', sources))
    assert len(raised) > 5
    assert raised == FETCH_FAULTS.keys()


# -- Redis ---------------------------------------------------------------------------------


REDIS: dict[str, tuple[dict[str, str], str, str]] = {
    "no append-only file": (
        {"appendonly": "no"}, "redis persistence", "no append-only file: a restart",
    ),
    "evicts the least recently used": (
        {"maxmemory-policy": "allkeys-lru"}, "redis eviction", "allkeys-lru: an evicted marker",
    ),
    "evicts what has a time to live": (
        {"maxmemory-policy": "volatile-ttl"}, "redis eviction", "volatile-ttl: an evicted marker",
    ),
    "a replica": ({"replicaof": "127.0.0.1 1"}, "redis role", "a replica takes no writes"),
}  # fmt: skip


def test_a_redis_without_waitaof_cannot_provide_fsync(
    run: Run, provider: Provider, without_waitaof: RedisServer
) -> None:
    text = 'durability = "fsync"\n' + config(without_waitaof.url, issuer(provider))
    ended = run("check", text)
    assert ended.status == 1
    assert rows(ended)["durability"] == (
        "WRONG",
        f"fsync cannot be reached here: {WAITAOF_MISSING}",
    )


@pytest.mark.parametrize(("options", "what", "detail"), REDIS.values(), ids=REDIS)
def test_a_misconfigured_redis_has_a_row(
    options: dict[str, str],
    what: str,
    detail: str,
    run: Run,
    provider: Provider,
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client:
        for name, value in options.items():
            if name == "replicaof":
                client.execute_command("REPLICAOF", *value.split())
            else:
                client.config_set(name, value)
    ended = run("check", config(redis_server.url, issuer(provider)))
    assert ended.status == 1
    table = rows(ended)
    verdict, text = table.pop(what)
    assert (verdict, text[: len(detail)]) == ("WRONG", detail)
    assert {verdict for verdict, _ in table.values()} == {"ok"}


def test_a_redis_that_is_down_has_a_row(run: Run, provider: Provider) -> None:
    """The provider has its row too."""
    port = free_port()
    ended = run("check", config(f"redis://:{SECRET}@127.0.0.1:{port}/3", issuer(provider)))
    assert ended.status == 1
    assert rows(ended)[f"redis 127.0.0.1:{port}/3"] == (
        "WRONG",
        "cannot be reached (ConnectionError)",
    )
    assert rows(ended)[f"issuer {provider.issuer}"][0] == "ok"
    assert SECRET not in ended.out + ended.err


@pytest.mark.slow
def test_a_redis_that_is_frozen_has_a_row(
    run: Run, provider: Provider, redis_server: RedisServer
) -> None:
    redis_server.freeze()
    ended = run("check", config(redis_server.url, issuer(provider)))
    assert ended.status == 1
    what = f"redis 127.0.0.1:{redis_server.port}/0"
    assert rows(ended)[what] == ("WRONG", "does not answer in time")


@pytest.fixture
def guarded_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """The default user needs a password; `writer` may not run INFO."""
    server = RedisServer(tmp_path / "guarded").start()
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "writer", "on", f">{SECRET}", "~bcl:*", "+@write", "-info"
        )
        client.config_set("requirepass", SECRET)
    yield server
    server.stop(signal.SIGKILL)


@pytest.mark.parametrize("user", ["", ":wrong-hunter3@", f"nobody:{SECRET}@"])
def test_a_redis_that_refuses_the_password_has_a_row(
    user: str, run: Run, provider: Provider, guarded_redis: RedisServer
) -> None:
    url = guarded_redis.url.replace("//", f"//{user}")
    ended = run("check", config(url, issuer(provider)))
    assert ended.status == 1
    what = f"redis 127.0.0.1:{guarded_redis.port}/0"
    assert rows(ended)[what] == ("WRONG", "refuses this user or password")
    assert "hunter" not in ended.out + ended.err


def test_a_missing_right_to_run_info_is_not_a_fault(
    run: Run, provider: Provider, guarded_redis: RedisServer
) -> None:
    """The receiver does not need it: what cannot be checked is neither right nor wrong."""
    url = guarded_redis.url.replace("//", f"//writer:{SECRET}@")
    ended = run("check", config(url, issuer(provider)))
    assert ended.status == 0
    what = f"redis 127.0.0.1:{guarded_redis.port}/0"
    assert rows(ended)[what] == ("?", "answers, but this user may not run INFO")
    assert SECRET not in ended.out + ended.err


# Not an address of this machine: nothing listens there, which the leading dash permits.
ELSEWHERE = {"bind": "127.0.0.1 -192.0.2.1"}

ACCESS: dict[str, tuple[dict[str, str], str, str]] = {
    "on loopback alone": ({"bind": "127.0.0.1"}, "ok", "no password is needed, and only"),
    "elsewhere, in protected mode": (ELSEWHERE, "ok", "no password is needed, and only"),
    "elsewhere": (ELSEWHERE | {"protected-mode": "no"}, "WRONG", "no password is needed: anybody"),
    "elsewhere, with a password": (
        ELSEWHERE | {"protected-mode": "no", "requirepass": SECRET}, "ok", "a password is needed",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "verdict", "detail"), ACCESS.values(), ids=ACCESS)
def test_a_redis_that_is_open_to_others_is_a_fault(
    options: dict[str, str],
    verdict: str,
    detail: str,
    run: Run,
    provider: Provider,
    redis_server: RedisServer,
) -> None:
    url = redis_server.url
    with redis_server.client() as client:
        client.config_set(*(word for option in options.items() for word in option))
    if "requirepass" in options:
        url = url.replace("//", f"//:{SECRET}@")
    ended = run("check", config(url, issuer(provider)))
    actual, text = rows(ended)["redis access"]
    assert (actual, text[: len(detail)]) == (verdict, detail)
    assert ended.status == (1 if verdict == "WRONG" else 0)
    assert SECRET not in ended.out + ended.err


async def test_a_server_that_does_not_answer_is_not_called_protected(
    redis_server: RedisServer,
) -> None:
    redis = connect(redis_server.url)
    try:
        await redis.ping()
        await asyncio.to_thread(redis_server.freeze)
        (row,) = await access_rows(redis, redis_server.url)
    finally:
        await asyncio.to_thread(redis_server.thaw)
        await aclose(redis)
    assert row.verdict is CheckVerdict.UNKNOWN


def test_a_default_user_without_a_password_is_a_fault_beside_others_with_one(
    run: Run, provider: Provider, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "writer", "on", f">{SECRET}", "~*", "&*", "+@all")
        client.config_set("bind", ELSEWHERE["bind"], "protected-mode", "no")
    url = redis_server.url.replace("//", f"//writer:{SECRET}@")
    assert rows(run("check", config(url, issuer(provider))))["redis access"][0] == "WRONG"


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("redis://10.0.0.7:6379", True),
        ("redis+sentinel://127.0.0.1,10.0.0.7/main", True),
        ("rediss://10.0.0.7:6379", False),
        ("redis://user:secret@localhost:6379/0", False),
        ("redis://[::1]:6379", False),
        ("unix:///run/redis.sock", False),
    ],
)
def test_unencrypted_connections_across_a_network_are_warned_of(url: str, warned: bool) -> None:
    assert bool([*encryption_rows(url)]) is warned


def test_an_embedded_server_is_looked_up_and_not_started(
    run: Run, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run("check", config("embedded", issuer(provider)))
    assert ended.status == 0
    assert re.fullmatch(r"embedded: /.*-server", rows(ended)["redis"][1])
    assert not (tmp_path / "data").exists()


# -- several faults ------------------------------------------------------------------------


def test_all_faults_are_reported_at_once(
    run: Run, provider: Provider, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-random")
    gone = f"http://127.0.0.1:{free_port()}"
    with Provider() as second:
        second.mode = "500"
        text = config(redis_server.url, issuer(provider), issuer(second), f'issuer = "{gone}"')
        ended = run("check", text)
    assert ended.status == 1
    assert {what for what, (verdict, _) in rows(ended).items() if verdict == "WRONG"} == {
        f"issuer {second.issuer}",
        f"issuer {gone}",
        "redis persistence",
        "redis eviction",
    }
    assert rows(ended)[f"issuer {provider.issuer}"][0] == "ok"
    assert rows(ended)["settings"] == ("ok", "3 issuers; apps: shop")
    assert ended.out.endswith("\n4 faults\n")


def test_invalid_settings_have_a_row_each_and_cause_no_request(
    run: Run, provider: Provider
) -> None:
    text = config(f"http://:{SECRET}@h", issuer(provider, 'leeway = "soon"', "colour = 1"))
    ended = run("check", text)
    assert ended.status == 1
    lines = ended.out.splitlines()
    assert [line.split()[:3] for line in lines[:3]] == [
        ["WRONG", "settings", "issuers[0].colour:"],
        ["WRONG", "settings", "issuers[0].leeway:"],
        ["WRONG", "settings", "redis_url:"],
    ]
    assert SECRET not in ended.out + ended.err
    assert not provider.requests


@pytest.mark.slow
def test_check_runs_as_a_process(
    provider: Provider, shared_redis: RedisServer, tmp_path: Path
) -> None:
    """A process with settings from the environment alone; the exit status is the process's."""
    provider.mode = "500"
    environ = {
        "BCL_ISSUER": provider.issuer,
        "BCL_CLIENT_ID": "shop-web",
        "BCL_REDIS_URL": shared_redis.url,
    }
    ended = run_app("check", cwd=tmp_path, env=environ)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert f"WRONG  issuer {provider.issuer}" in ended.stdout
    assert "ok     redis role" in ended.stdout


def test_enabled_traces_have_a_row(run: Run, provider: Provider, shared_redis: RedisServer) -> None:
    toml = config(shared_redis.url, issuer(provider), top="otel = true")
    assert rows(run("check", toml))["otel"] == ("ok", "OpenTelemetry is installed")
