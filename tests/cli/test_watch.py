"""``python -m app watch``: a process at a terminal, with real events, refusals and outages."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.canary.issuer import ISSUER as CANARY
from app.store.operator_streams import REFUSED
from app.telemetry.hashes import KeyedHash
from backchannel_logout import AppKeys
from tests.cli.conftest import Run
from tests.support.receiver import ROOT, clean_environment, config, wait_for
from tests.support.revocations import ISS, revocation
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

CLIENTS = '[{client_id = "shop-web", app = "shop"}, {client_id = "wiki-web", app = "wiki"}]'
REFUSAL = {"at": "1795283041.207", "reason": "iat_old", "iss": ISS, "alg": "RS256"}


class Watch:
    def __init__(self, directory: Path, text: str, *arguments: str) -> None:
        (directory / "settings.toml").write_text(text)
        self._out, self._err = directory / "out", directory / "err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "watch", "--config", "settings.toml", *arguments],
                cwd=directory, stdout=out, stderr=err,
                env=clean_environment() | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip

    @property
    def lines(self) -> list[str]:
        return self._out.read_text().splitlines()

    @property
    def errors(self) -> str:
        return self._err.read_text()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@pytest.fixture
def text(redis_server: RedisServer) -> str:
    return config(redis_server.url, f'issuer = "{ISS}"', clients=CLIENTS)


@pytest.fixture
def watches() -> Iterator[list[Watch]]:
    running: list[Watch] = []
    yield running
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def add(server: RedisServer, app: str, sid: str) -> None:
    with server.client() as look:
        look.xadd(AppKeys(app).events, revocation(app, sid=sid).event.to_fields())  # type: ignore[arg-type]


def refuse(server: RedisServer, **changes: str) -> None:
    with server.client() as look:
        look.xadd(REFUSED, REFUSAL | changes)  # type: ignore[arg-type]


def test_events_and_refusals_are_lines_and_ctrl_c_ends_the_command_quietly(
    watches: list[Watch], text: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    add(redis_server, "shop", "s1")
    refuse(redis_server, request_id="r1\x1b[2J")
    watches.append(watch := Watch(tmp_path, text, "--since", "1h"))
    wait_for(lambda: len(watch.lines) == 2, "both are shown")
    add(redis_server, "wiki", "s2")
    wait_for(lambda: len(watch.lines) == 3, "the third is shown")
    assert watch.stop() == 130
    first, second, third = watch.lines
    assert "  shop     session  sid s1  sub alice  iss https://op.example  source " in first
    assert r"refused  iat_old: verified no  iss https://op.example  alg RS256  request " in second
    assert "\x1b" not in second
    assert "  wiki     session  sid s2 " in third


def test_a_parked_token_is_not_shown_as_refused(
    watches: list[Watch], text: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    refuse(redis_server, reason="keys_unavailable")
    watches.append(watch := Watch(tmp_path, text, "--since", "1h"))
    wait_for(lambda: watch.lines, "it is shown")
    assert "waits    keys_unavailable: " in watch.lines[0]
    assert "refused" not in watch.lines[0]
    assert watch.errors == ""


def test_the_canary_is_shown_on_request(
    watches: list[Watch], text: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    bird = revocation("canary", issuer_names=(CANARY,), sid="c1", sub=None)
    with redis_server.client() as look:
        look.xadd(AppKeys("canary").events, bird.event.to_fields())  # type: ignore[arg-type]
    add(redis_server, "shop", "s1")
    asked = {"all": [], "app": ["--app", "canary"], "issuer": ["--issuer", CANARY]}
    for name, more in asked.items():
        (tmp_path / name).mkdir()
        watches.append(Watch(tmp_path / name, text + "[canary]\n", "--since", "1h", *more))
    wait_for(lambda: all(watch.lines for watch in watches), "each shows something")
    add(redis_server, "shop", "s2")
    wait_for(lambda: len(watches[0].lines) == 2, "the next one is shown")
    assert all("  shop     session" in line for line in watches[0].lines)
    for watch in watches[1:]:
        (line,) = watch.lines
        assert f"  canary   session  sid c1  iss {CANARY}" in line


def test_filters_and_json_lines(
    watches: list[Watch], text: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    for app, sid in (("shop", "s1"), ("wiki", "s1"), ("shop", "s2")):
        add(redis_server, app, sid)
    refuse(redis_server)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = Watch(tmp_path / "a", text, "--json", "--since", "1h", "--app", "shop", "--sid", "s1")
    other = Watch(tmp_path / "b", text, "--json", "--since", "1h", "--reason", "iat_old")
    watches += [one, other]
    wait_for(lambda: one.lines and other.lines, "each shows something")
    event, refusal = json.loads(one.lines[0]), json.loads(other.lines[0])
    assert (event["type"], event["app"], event["event"]["sid"]) == ("event", "shop", "s1")
    assert (refusal["type"], refusal["reason"]) == ("refusal", "iat_old")
    add(redis_server, "shop", "s1")
    refuse(redis_server)
    wait_for(lambda: len(one.lines) == len(other.lines) == 2, "each shows its second")


def test_a_refusal_of_the_session_is_found_by_its_hash(
    watches: list[Watch], text: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    text = f'hash_key = "a-key-of-the-settings"\n{text}'
    refuse(redis_server, sid_hash=KeyedHash(b"a-key-of-the-settings")("s1"), request_id="mine")
    refuse(redis_server, sid_hash=KeyedHash(b"a-key-of-the-settings")("s2"))
    watches.append(watch := Watch(tmp_path, text, "--sid", "s1", "--since", "1h"))
    wait_for(lambda: watch.lines, "it is shown")
    add(redis_server, "shop", "s1")
    wait_for(lambda: len(watch.lines) == 2, "the event, too")
    assert "  request mine  " in watch.lines[0]


def test_the_command_survives_a_restart_of_redis(
    watches: list[Watch], text: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    watches.append(watch := Watch(tmp_path, text, "--since", "1h"))
    add(redis_server, "shop", "s1")
    wait_for(lambda: len(watch.lines) == 1, "it runs")
    redis_server.stop()
    wait_for(lambda: "cannot be read now" in watch.errors, "it is reported")
    redis_server.start()
    wait_for(lambda: "all can be read" in watch.errors, "it is back")
    add(redis_server, "shop", "s2")
    wait_for(lambda: len(watch.lines) == 2, "the second is shown")


def test_a_closed_pipe_ends_the_command_quietly(
    text: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "settings.toml").write_text(text)
    for n in range(3):
        add(redis_server, "shop", f"s{n}")
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "watch", "--config", "settings.toml", "--since", "1h"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        for n in range(3):
            add(redis_server, "shop", f"t{n}")
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


def test_an_unknown_app_is_exit_status_2(run: Run, text: str) -> None:
    assert run("watch", text, "--app", "another").status == 2


def test_forty_apps_are_all_watched(
    watches: list[Watch], redis_server: RedisServer, tmp_path: Path
) -> None:
    apps = [f"app-{n}" for n in range(40)]
    clients = ", ".join(f'{{client_id = "{app}-web", app = "{app}"}}' for app in apps)
    text = config(redis_server.url, f'issuer = "{ISS}"', clients=f"[{clients}]")
    for app in apps:
        add(redis_server, app, f"of-{app}")
    refuse(redis_server)
    watches.append(watch := Watch(tmp_path, text, "--since", "1h", "--json"))
    wait_for(lambda: len(watch.lines) >= 41, f"every app and the refusal: {watch.errors}")
    found = [json.loads(line) for line in watch.lines]
    assert {one["app"] for one in found if one["type"] == "event"} == set(apps)
    assert [one["type"] for one in found].count("refusal") == 1
    assert watch.errors == ""
