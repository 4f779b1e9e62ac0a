"""``python -m app status``: healthy or not, at a glance."""

import asyncio
import json
import signal
import time
from pathlib import Path

import pytest

from app.journal.journal import Journal
from backchannel_logout import AppKeys, Reader, ReaderKind, Session, SessionGuard
from tests.cli.conftest import Ended, Run
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.revocations import ISS, new_app, revocation
from tests.support.servers.redis_server import RedisServer, free_port


def verdicts(ended: Ended) -> dict[str, str]:
    found = json.loads(ended.out)
    return {row["what"]: row["verdict"] for row in found["rows"]}


def details(ended: Ended, what: str) -> list[str]:
    rows = json.loads(ended.out)["rows"]
    return [row["detail"] for row in rows if row["what"] == what]


def settings(server: RedisServer, app: str, tmp_path: Path) -> str:
    clients = f'[{{client_id = "shop-web", app = "{app}"}}]'
    top = f'data_dir = "{tmp_path}/data"'
    return config(server.url, f'issuer = "{ISS}"', clients=clients, top=top, ports=(0, 1))


@pytest.mark.slow
def test_a_running_service_is_healthy_until_its_redis_stops(
    run: Run, provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    ports = (free_port(), free_port())
    text = config(redis_server.url, f'issuer = "{provider.issuer}"', ports=ports)
    receiver = Receiver(tmp_path / "receiver", text).start()
    try:
        assert receiver.post(provider.token()).status_code == 200
        ended = run("status", text)
        assert (ended.status, "no reader has ever reported" in ended.out) == (3, True)
        with SessionGuard(redis_server.url, app="shop") as guard:
            guard.is_revoked(Session(provider.issuer, int(time.time()), sid="s9"))
        ended = run("status", text)
        assert ended.status == 0
        assert "reads: 1 asks at each check (asked " in ended.out
        assert ended.out.endswith("\nnothing is wrong\n")
        assert "ok     service" in ended.out
        assert "1 event, the last" in ended.out
        ended = run("status", text, "--json")
        assert (ended.status, json.loads(ended.out)["healthy"]) == (0, True)
        assert json.loads(ended.out)["service"]["ready"] is True
        redis_server.stop()
        wait_for(lambda: receiver.readyz().json()["redis"]["error"], "it has noticed", receiver)
        assert receiver.post(provider.token(sid="s2", jti="2")).status_code == 200
        ended = run("status", text, "--json")
        assert ended.status == 1
        found = verdicts(ended)
        assert (found["service"], found["service's redis"]) == ("ok", "WRONG")
        assert (found["app shop"], found["journal"]) == ("WRONG", "warn")
    finally:
        receiver.stop(signal.SIGKILL)  # it would wait for Redis, with a journal that is not empty


def test_without_a_service_on_this_machine_status_checks_redis(
    run: Run, redis_server: RedisServer, tmp_path: Path
) -> None:
    app = new_app()
    text = settings(redis_server, app, tmp_path)
    ended = run("status", text, "--json")
    assert ended.status == 1
    assert verdicts(ended) == {"service": "?", f"app {app}": "WRONG", "journal": "ok"}
    with redis_server.client() as look:
        look.hset(AppKeys(app).meta, mapping={"v": "1", "max_session_age": "3600"})
    ended = run("status", text)
    assert ended.status == 0
    assert "0 events; not reporting" in ended.out


def test_problems_are_listed_first_and_alone_if_that_is_asked_for(
    run: Run, redis_server: RedisServer, tmp_path: Path
) -> None:
    apps = ["a-good", "b-without-meta", "c-good", "d-dead-letter"]
    clients = ", ".join(f'{{client_id = "{app}", app = "{app}"}}' for app in apps)
    text = config(
        redis_server.url, f'issuer = "{ISS}"', clients=f"[{clients}]",
        top=f'data_dir = "{tmp_path}/data"', ports=(0, 1),
    )  # fmt: skip
    with redis_server.client() as look:
        for app in ("a-good", "c-good", "d-dead-letter"):
            look.hset(AppKeys(app).meta, mapping={"v": "1", "max_session_age": "3600"})
        look.xadd(AppKeys("d-dead-letter").dead_letters, {"event": "x", "error": "y"})
    ended = run("status", text)
    assert ended.status == 1
    order = [line.split()[0] for line in ended.out.splitlines() if line]
    order = order[:-1]  # the result
    assert order == sorted(order, key=["WRONG", "warn", "?", "ok"].index)
    assert {"WRONG", "warn", "ok"} <= set(order)
    ended = run("status", text, "--problems")
    assert ended.status == 1
    assert "b-without-meta" in ended.out
    assert "d-dead-letter" in ended.out
    assert "good" not in ended.out
    rows = json.loads(run("status", text, "--problems", "--json").out)["rows"]
    assert [row["verdict"] for row in rows] == sorted(
        (row["verdict"] for row in rows), key=["WRONG", "warn", "?"].index
    )


@pytest.mark.parametrize("command", ["status", "check"])
async def test_entries_that_wait_in_the_journal_of_a_stopped_receiver_are_a_warning(
    command: str, run: Run, redis_server: RedisServer, tmp_path: Path
) -> None:
    app = new_app()
    journal = Journal(tmp_path / "data/journal.db", max_bytes=1 << 20)
    journal.path.parent.mkdir()
    await journal.open()
    await journal.append(revocation(app))
    await journal.close()
    with redis_server.client() as look:
        look.hset(AppKeys(app).meta, mapping={"v": "1", "max_session_age": "3600"})
    text = settings(redis_server, app, tmp_path)
    ended = await asyncio.to_thread(run, command, text)
    (row,) = [line for line in ended.out.splitlines() if line.split()[1:2] == ["journal"]]
    assert row.startswith("warn ")
    assert row.endswith("1 waiting, 0 set aside")
    if command == "status":
        assert ended.status == 3


def test_a_renamed_app_is_listed_until_its_meta_is_removed(
    run: Run, redis_server: RedisServer, tmp_path: Path
) -> None:
    """By `status` and `check`, with the command that removes it; control sequences are escaped."""
    new, old = AppKeys("node2"), AppKeys("node")
    text = settings(redis_server, "node2", tmp_path)
    with redis_server.client() as look:
        for keys in (new, old):
            look.hset(keys.meta, mapping={"v": "1", "max_session_age": "3600"})
        look.hset("bcl:v1:{\x1b[2J}:meta", "v", "1")
        look.hset(AppKeys("typo").readers, "asks", "{}")
        for command in ("status", "check"):
            ended = run(command, text)
            assert "app node  " in ended.out, command
            assert f"redis-cli DEL '{old.meta}'" in ended.out
            assert "app typo  " in ended.out
            assert "\x1b" not in ended.out
        found = json.loads(run("status", text, "--json").out)
        assert [one["app"] for one in found["unserved"]["apps"]] == ["node", "typo"]
        assert {row["verdict"] for row in found["rows"] if row["what"] == "app node"} == {"warn"}
        look.expire(old.meta, 86400)
        assert "another receiver serves it" in run("status", text).out
        look.delete(old.meta, AppKeys("typo").readers)
        assert "no client of these settings" not in run("status", text).out


@pytest.mark.parametrize("command", ["status", "check"])
def test_sessions_without_the_sid_of_the_logout_tokens_name_the_setting_to_change(
    command: str, run: Run, redis_server: RedisServer, tmp_path: Path
) -> None:
    text = settings(redis_server, "shop", tmp_path)
    keys = AppKeys("shop")
    with redis_server.client() as look:
        look.hset(keys.meta, mapping={"v": "1", "max_session_age": "3600"})
        look.xadd(keys.events, revocation("shop").event.to_fields())  # type: ignore[arg-type]
        with SessionGuard(redis_server.url, app="shop") as guard:
            guard.is_revoked(Session(ISS, int(time.time()), sub="alice"))
    assert 'Set both_claims = "user"' in run(command, text).out
    mended = text.replace('"shop-web"', '"shop-web", both_claims = "user"')
    assert "both_claims" not in run(command, mended).out


def test_an_apps_unprocessed_events_are_a_warning(
    run: Run, shared_redis: RedisServer, tmp_path: Path
) -> None:
    app = new_app()
    keys = AppKeys(app)
    with shared_redis.client() as look:
        look.hset(keys.meta, mapping={"v": "1", "max_session_age": "3600"})
        for n in range(101):
            look.xadd(keys.events, revocation(app, sid=f"s{n}").event.to_fields())  # type: ignore[arg-type]
        look.xgroup_create(keys.events, "mail", "0")
        look.xadd(keys.dead_letters, {"dl_event": "1-1"})
        reader = Reader(name="web", kind=ReaderKind.CACHE, at=time.time(), position="0-0")
        look.hset(keys.readers, "web", reader.to_json())
    ended = run("status", settings(shared_redis, app, tmp_path), "--json")
    assert ended.status == 3, "warnings, and nothing worse"
    text = " | ".join(details(ended, f"app {app}"))
    assert "reads: 1 cache" in text
    assert "a reader is 101 events behind" in text
    assert "group mail: lag 101, 0 pending" in text
    assert "1 dead letter, the last" in text


def test_an_embedded_server_that_never_ran_is_reported_in_one_sentence(
    run: Run, tmp_path: Path
) -> None:
    top = f'data_dir = "{tmp_path}/data"'
    ended = run("status", config("embedded", f'issuer = "{ISS}"', top=top))
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("no embedded server has been started in ")


HOSTILE = {
    "title": "\x1b]0;nothing is wrong\x07",
    "clear": "\x1b[2J\x1b[H",
    "a line of its own": "mail\nok     service  ready",
    "overwritten": "mail\rok     service",
    "backwards": "\u202egnorw si gnihton",
    "c1": "\x9b2J",
    "invisible": "ma\u200bil",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=list(HOSTILE))
def test_a_groups_name_is_escaped_for_the_terminal(
    name: str, run: Run, shared_redis: RedisServer, tmp_path: Path
) -> None:
    app = new_app()
    keys = AppKeys(app)
    with shared_redis.client() as look:
        look.hset(keys.meta, mapping={"v": "1", "max_session_age": "3600"})
        look.xadd(keys.events, revocation(app).event.to_fields())  # type: ignore[arg-type]
        look.xgroup_create(keys.events, name, "0")
    ended = run("status", settings(shared_redis, app, tmp_path))
    assert all(char.isprintable() or char == "\n" for char in ended.out), ended.out
    (row,) = [line for line in ended.out.splitlines() if "group " in line]
    assert row.startswith("ok     app ")
    assert "lag 1" in row
    assert sum("service" in line.split()[1:2] for line in ended.out.splitlines()) == 1
