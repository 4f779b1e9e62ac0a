"""``python -m app revoke``: markers and events like those of other logouts, and an audit entry."""

import json
import time
from io import StringIO
from random import Random
from typing import Any

import pytest

from app.store.operator_streams import AUDIT
from backchannel_logout import AppKeys, Event, Reader, ReaderKind, Session, SessionGuard
from tests.cli.conftest import Run
from tests.support.receiver import config
from tests.support.revocations import ISS, new_app
from tests.support.servers.proxy import Proxy
from tests.support.servers.redis_server import RedisServer, free_port

WHY = ("--reason", "lost laptop", "--by", "anna")


class Apps:
    """Two apps of one issuer, and one of another."""

    def __init__(self, server: RedisServer) -> None:
        self.shop, self.wiki, self.other = new_app(), new_app(), new_app()
        self.look: Any = server.client()
        self.url = server.url
        clients = ", ".join(
            f'{{client_id = "{app}", app = "{app}", max_session_age = 3600}}'
            for app in (self.shop, self.wiki)
        )
        self.text = config(
            server.url,
            f'issuer = "{ISS}"\naliases = ["https://alias.example"]',
            clients=f"[{clients}]",
        )
        self.text += '[[issuers]]\nissuer = "https://b.example"\n'
        self.text += f'clients = [{{client_id = "{self.other}"}}]\n'
        for app in (self.shop, self.wiki, self.other):
            self.look.hset(AppKeys(app).meta, mapping={"v": "1", "max_session_age": "3600"})

    def events(self, app: str) -> list[Event]:
        found = self.look.xrange(AppKeys(app).events)
        return [Event.from_fields(fields, entry_id) for entry_id, fields in found]

    def audit(self, jti: str | None) -> dict[str, str]:
        (found,) = [one for _, one in self.look.xrange(AUDIT) if one.get("jti") == jti]
        return dict(found)

    def dead(self, app: str, sid: str, sub: str = "alice") -> bool:
        with SessionGuard(self.url, app=app) as guard:
            return guard.is_revoked(Session(ISS, int(time.time()) - 10, sid=sid, sub=sub))


@pytest.fixture
def apps(shared_redis: RedisServer) -> Apps:
    return Apps(shared_redis)


def test_a_session_ends_in_every_app_of_its_issuer_and_the_neighbour_lives(
    run: Run, apps: Apps
) -> None:
    ended = run("revoke", apps.text, "--issuer", ISS, "--sid", "s1", *WHY)
    assert ended.status == 0
    for app in (apps.shop, apps.wiki):
        assert apps.dead(app, "s1")
        assert not apps.dead(app, "s2")
        event, of_alias = apps.events(app)
        assert (event.kind, event.iss, event.sid, event.source) == ("session", ISS, "s1", "admin")
        assert of_alias.iss == "https://alias.example"
        assert f"{app}: session, what logged in at or before 20" in ended.out
        for key in (AppKeys(app).sid(ISS, "s1"), AppKeys(app).sid("https://alias.example", "s1")):
            assert f"  marker     {key} = {event.cutoff}" in ended.out
        assert f"  event      {event.id}" in ended.out
        assert "  status     nobody: " in ended.out
    assert apps.events(apps.other) == []


def test_operator_and_reason_are_in_the_audit_and_not_in_the_apps_streams(
    run: Run, apps: Apps
) -> None:
    ended = run("revoke", apps.text, "--issuer", ISS, "--sub", "alice", "--yes", *WHY, "--json")
    assert ended.status == 0
    (event, _) = apps.events(apps.shop)
    assert "anna" not in str(event)
    assert "laptop" not in str(event)
    entry = apps.audit(event.jti)
    assert (entry["act"], entry["who"], entry["why"]) == ("revoke", "anna", "lost laptop")
    assert (entry["outcome"], entry["iss"], entry["kind"]) == ("done", ISS, "user")
    assert json.loads(entry["apps"]) == sorted([apps.shop, apps.wiki])
    assert "alice" not in str(entry)
    assert len(entry["sub_hash"]) == 16
    answer = json.loads(ended.out)
    assert (answer["act"], answer["sub"], answer["audited"]) == (event.jti, "alice", True)
    assert [one["written"] for one in answer["apps"]] == [True, True]


def test_a_user_s_sessions_end_in_the_named_app_alone(run: Run, apps: Apps) -> None:
    arguments = ("--issuer", ISS, "--sub", "alice", "--app", apps.shop, "--yes")
    assert run("revoke", apps.text, *arguments, *WHY).status == 0
    assert apps.dead(apps.shop, "any")
    assert not apps.dead(apps.shop, "any", sub="bob")
    assert not apps.dead(apps.wiki, "any")


def test_everybody_is_signed_out_of_every_app_without_naming_them(run: Run, apps: Apps) -> None:
    ended = run("revoke", apps.text, "--issuer", ISS, "--all", "--yes", *WHY)
    assert ended.status == 0, ended.err
    for app in (apps.shop, apps.wiki):
        assert apps.dead(app, "s1"), app
    assert apps.events(apps.other) == []


def test_after_redis_lost_its_data_everything_ends_with_one_command(run: Run, apps: Apps) -> None:
    command = ("revoke", apps.text, "--all", "--all-issuers", "--json", *WHY)
    dry = run(*command, "--dry-run")
    assert [order["iss"] for order in json.loads(dry.out)] == [ISS, "https://b.example"]
    assert apps.events(apps.shop) == []
    ended = run(*command, "--yes")
    assert ended.status == 0, ended.err
    orders = json.loads(ended.out)
    assert [[each["app"] for each in order["apps"]] for order in orders] == [
        sorted([apps.shop, apps.wiki]),
        [apps.other],
    ]
    for order, app in zip(orders, (apps.shop, apps.other), strict=True):
        assert apps.events(app)[0].kind == "all"
        assert apps.audit(order["act"])["outcome"] == "done"


def test_all_sessions_of_an_issuer_end_in_the_named_app_alone(run: Run, apps: Apps) -> None:
    arguments = ("--issuer", ISS, "--all", "--app", apps.shop, "--yes")
    assert run("revoke", apps.text, *arguments, *WHY).status == 0
    assert apps.dead(apps.shop, "any", sub="anybody")
    assert not apps.dead(apps.wiki, "any", sub="anybody")
    assert [one.kind for one in apps.events(apps.shop)] == ["all", "all"]


def test_a_dry_run_writes_nothing(run: Run, apps: Apps) -> None:
    before = apps.look.xlen(AUDIT)
    ended = run("revoke", apps.text, "--issuer", ISS, "--sub", "alice", "--dry-run", *WHY)
    assert ended.status == 0
    assert AppKeys(apps.shop).sub(ISS, "alice") in ended.out
    assert "nothing was written: --dry-run" in ended.out
    assert apps.events(apps.shop) == []
    assert not apps.dead(apps.shop, "s1")
    assert apps.look.xlen(AUDIT) == before


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "status"), [("yes\n", 0), ("Y\n", 0), ("no\n", 1), ("", 1)])
def test_signing_a_user_out_everywhere_requires_a_confirmation(
    answer: str, status: int, run: Run, apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    ended = run("revoke", apps.text, "--issuer", ISS, "--sub", "alice", *WHY)
    assert ended.status == status
    assert "all sessions of alice of https://op.example end now in: " in ended.err
    assert apps.dead(apps.shop, "s1") is (status == 0)


def test_waiting_succeeds_once_every_app_has_acted(run: Run, apps: Apps) -> None:
    arguments = ("revoke", apps.text, "--issuer", ISS, "--sid", "s1", "--app", apps.shop)
    assert run(*arguments, "--wait", "0.3s", *WHY).status == 1
    asks = Reader(name="asks", kind=ReaderKind.ASKS, at=time.time())
    apps.look.hset(AppKeys(apps.shop).readers, "asks", asks.to_json())
    ended = run(*arguments, "--wait", "10s", *WHY)
    assert ended.status == 0
    assert "  status     asks: " in ended.out


def test_an_app_that_redis_refuses_is_named_and_the_others_are_written(
    run: Run, apps: Apps
) -> None:
    apps.look.set(AppKeys(apps.shop).events, "not a stream")
    ended = run("revoke", apps.text, "--issuer", ISS, "--sid", "s1", *WHY)
    assert ended.status == 1
    assert f"{apps.shop}: FAILED: WRONGTYPE" in ended.out
    assert f"not ended in: {apps.shop}; repeat the command" in ended.err
    (event, _) = apps.events(apps.wiki)
    assert apps.audit(event.jti)["outcome"] == "partly"


def test_an_unreachable_redis_is_exit_status_1(run: Run) -> None:
    text = config(f"redis://127.0.0.1:{free_port()}/0", f'issuer = "{ISS}"')
    ended = run("revoke", text, "--sid", "s1", *WHY)
    assert ended.status == 1
    assert "shop: NOT KNOWN, Redis has not answered: ConnectionError" in ended.out
    assert "perhaps ended, perhaps not, in: shop; repeat the command" in ended.err
    assert "the audit entry was not written: ConnectionError" in ended.err
    # The line at least records the attempt and its author.
    assert '"who":"anna"' in ended.err


@pytest.mark.slow
def test_a_redis_that_answers_too_late_may_have_written_the_revocation(
    run: Run, apps: Apps
) -> None:
    """The command arrives, but its reply does not."""
    port = int(apps.url.rpartition(":")[2].partition("/")[0])
    with Proxy(port, Random(1)) as proxy:  # noqa: S311  as in every test
        text = apps.text.replace(apps.url, proxy.url)
        proxy.delay = 1.5
        ended = run("revoke", text, "--issuer", ISS, "--sid", "s1", "--json", *WHY)
        assert ended.status == 1
        found = json.loads(ended.out)["apps"]
        assert [one["written"] for one in found] == [None, None]
        assert [one["fault"] for one in found] == ["timeout", "timeout"]


@pytest.mark.slow
def test_a_revocation_below_the_durability_level_is_still_written(run: Run, apps: Apps) -> None:
    text = 'durability = "replicas:1"\n' + apps.text
    ended = run("revoke", text, "--issuer", ISS, "--sid", "s1", "--app", apps.shop, *WHY)
    assert ended.status == 1
    assert f"{apps.shop}: written, but not as durably as the settings demand: " in ended.out
    assert f"ended, and may be lost again, in: {apps.shop}; repeat the command" in ended.err
    assert apps.dead(apps.shop, "s1")
    (event, _) = apps.events(apps.shop)
    assert apps.audit(event.jti)["outcome"] == "done"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--issuer", ISS],
        ["--sid", "s1"],
        ["--issuer", ISS, "--sid", ""],
        ["--issuer", ISS, "--sid", "s" * 256],
        ["--all"],
        ["--issuer", ISS, "--all", "--sub", "alice"],
        ["--issuer", ISS, "--all", "--all-issuers"],
        ["--issuer", ISS, "--sid", "s1", "--all-issuers"],
        ["--all-issuers", "--sub", "alice"],
        ["--issuer", ISS, "--sid", "s1", "--app", "another"],
        ["--issuer", ISS, "--sid", "s1", "--by", " "],
        ["--issuer", "https://other.example", "--sid", "s1"],
        ["--issuer", ISS, "--sub", "alice"],
        ["--issuer", ISS, "--all"],
    ],
    ids=lambda one: " ".join(one)[:60],
)
def test_contradictory_arguments_are_exit_status_2_and_write_nothing(
    arguments: list[str], run: Run, apps: Apps
) -> None:
    ended = run("revoke", apps.text, "--reason", "why", *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("python -m app revoke: ")
    assert apps.events(apps.shop) == []


def test_a_missing_reason_is_wrong_usage(run: Run, apps: Apps) -> None:
    with pytest.raises(SystemExit) as ended:
        run("revoke", apps.text, "--issuer", ISS, "--sid", "s1")
    assert ended.value.code == 2
