"""``workers = N``: several processes that serve as one, through crashes and stops."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.admin.health import merged
from app.admin.probes import Body
from app.config.load import load
from app.config.model import Settings
from app.runtime.ipc import Channel
from app.runtime.worker_pool import share_of
from backchannel_logout import AppKeys
from tests.support.provider import Provider
from tests.support.receiver import ROOT, Receiver, clean_environment, config, crashes, wait_for
from tests.support.redis_server import RedisServer, free_port

pytestmark = pytest.mark.slow

KEYS = AppKeys("shop")

# -- one body for all of them --------------------------------------------------------------


def state(**changes: object) -> Body:
    """What a worker that is well says of itself, with changes."""
    return {
        "ready": True,
        "stopping": False,
        "redis": {"writable": True, "error": None, "durability_error": None},
        "issuers": {
            "op": {"attempted": True, "keys": 2, "age_seconds": 1.0, "error": None, "parked": 1}
        },
        "journal": {"writable": True, "error": None, "waiting": 1, "set_aside": 2},
    } | changes


def test_all_are_ready_when_each_is_and_their_journals_are_summed_up() -> None:
    body = merged([state(), state()])
    assert body["ready"]
    assert body["workers"] == {"all": 2, "answering": 2}
    assert body["redis"] == {"writable": True, "error": None, "durability_error": None}
    assert body["journal"] == {"writable": True, "error": None, "waiting": 2, "set_aside": 4}


@pytest.mark.parametrize("other", [None, state(ready=False)], ids=["silent", "not-ready"])
def test_one_that_is_not_ready_or_silent_makes_the_whole_not_ready(other: Body | None) -> None:
    assert merged([state(), other])["ready"] is False


def test_the_first_error_of_any_is_shown() -> None:
    away = {"writable": False, "error": "timeout", "durability_error": None}
    body = merged([state(), state(redis=away)])
    assert body["redis"] == away


def test_of_the_keys_the_worker_that_is_worst_off_is_shown() -> None:
    old = {"attempted": True, "keys": 2, "age_seconds": 99.0, "error": "timeout", "parked": 0}
    none = {"attempted": True, "keys": 0, "age_seconds": None, "error": "timeout", "parked": 3}
    assert merged([state(issuers={"op": old}), state()])["issuers"] == {"op": old | {"parked": 1}}
    assert merged([state(issuers={"op": none}), state(issuers={"op": old})])["issuers"] == {
        "op": none
    }


def test_what_is_wrong_with_the_parent_is_shown_and_takes_nobody_out_of_service() -> None:
    redis = {"writable": False, "error": "timeout", "durability_error": None}
    journal = {"writable": False, "error": "full", "waiting": 5, "set_aside": 0}
    body = merged([state(), state()], {"redis": redis, "journal": journal})
    assert body["ready"]
    assert body["redis"] == redis
    assert body["journal"] == {"writable": False, "error": "full", "waiting": 7, "set_aside": 4}


def test_when_nobody_answers_there_is_still_a_body() -> None:
    body = merged([None, None])
    assert body["ready"] is False
    assert body["workers"] == {"all": 2, "answering": 0}


def test_what_bounds_the_service_is_divided_and_what_is_off_stays_off(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        config("redis://127.0.0.1:1", 'issuer = "http://127.0.0.1:1"', top="parking_max_tokens = 0")
    )
    whole: Settings = load(path, {})
    share = share_of(whole, 3)
    assert (share.max_connections, share.max_in_flight) == (1366, 683)
    assert share.marker_quota == 333_334
    assert share.parking_max_tokens == 0
    assert share.keep_alive == whole.keep_alive


async def test_a_worker_that_dies_in_the_middle_of_its_answer_has_given_none() -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.over(ours)
    asking = asyncio.create_task(channel.ask(5))
    with theirs:
        await asyncio.to_thread(theirs.recv, 100)
        theirs.sendall(b'{"ready": tr')
    assert await asking is None
    channel.close()


# -- with real processes -------------------------------------------------------------------


@pytest.fixture
def receiver(provider: Provider, redis_server: RedisServer, tmp_path: Path) -> Iterator[Receiver]:
    text = config(redis_server.url, f'issuer = "{provider.issuer}"', top="workers = 2")
    receiver = Receiver(tmp_path / "receiver", text).start()
    yield receiver
    receiver.stop(signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Not a zombie either."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers_of(receiver: Receiver) -> list[int]:
    assert receiver.process is not None
    return children_of(receiver.process.pid)


def requests_of(receiver: Receiver, provider: Provider, sids: list[str]) -> list[int]:
    """Each on a connection of its own, so that the kernel gives them to all workers."""
    statuses = []
    for sid in sids:
        receiver.http.close()
        receiver.http = type(receiver.http)(timeout=10, trust_env=False)
        statuses.append(receiver.post(provider.token(sid=sid)).status_code)
    return statuses


def test_two_workers_serve_as_one(
    receiver: Receiver, provider: Provider, redis_server: RedisServer
) -> None:
    """Each with a journal file of its own; one address for providers, one for operators."""
    sids = [f"s{n}" for n in range(24)]
    assert requests_of(receiver, provider, sids) == [200] * 24
    with redis_server.client() as client:
        assert client.exists(*(KEYS.sid(provider.issuer, sid) for sid in sids)) == 24
    body = receiver.readyz().json()
    assert body["workers"] == {"all": 2, "answering": 2}
    assert body["journal"]["waiting"] == 0
    copies = sorted((receiver.directory / "data").glob("*.accepted/*.log"))
    assert [copy.parent.name for copy in copies] == [
        "journal-1.db.accepted",
        "journal.db.accepted",
    ], "both have served"
    assert receiver.http.get(receiver.admin_url + "/livez").text == "ok\n"


def test_a_worker_that_is_killed_is_replaced_and_its_connections_wait_for_that(
    receiver: Receiver, provider: Provider
) -> None:
    victim, other = workers_of(receiver)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not is_alive(victim), "it is gone", receiver)
    # Nobody is turned away meanwhile: who meets the dead one's line is served by its successor.
    assert requests_of(receiver, provider, [f"k{n}" for n in range(12)]) == [200] * 12
    wait_for(lambda: receiver.readyz().status_code == 200, "all are ready again", receiver)
    successors = workers_of(receiver)
    assert other in successors
    assert victim not in successors
    assert len(successors) == 2
    assert receiver.soon_told("worker", index=0, outcome="died", status=-9)


@pytest.mark.slow
def test_a_worker_that_hangs_makes_the_service_unready(receiver: Receiver) -> None:
    victim, _ = workers_of(receiver)
    os.kill(victim, signal.SIGSTOP)
    try:
        answer = receiver.readyz()
        assert answer.status_code == 503
        assert answer.json()["workers"] == {"all": 2, "answering": 1}
    finally:
        os.kill(victim, signal.SIGCONT)
    wait_for(lambda: receiver.readyz().status_code == 200, "it answers again", receiver)


@pytest.mark.slow
def test_a_worker_that_hangs_for_long_is_replaced(receiver: Receiver) -> None:
    victim, other = workers_of(receiver)
    os.kill(victim, signal.SIGSTOP)
    wait_for(lambda: not is_alive(victim), "it was ended", receiver, within=90)
    assert receiver.soon_told("worker", index=0, outcome="hangs", action="kill")
    wait_for(lambda: receiver.readyz().status_code == 200, "all are ready again", receiver)
    assert other in workers_of(receiver)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_stop_ends_all_of_them_in_order(number: signal.Signals, receiver: Receiver) -> None:
    workers = workers_of(receiver)
    assert receiver.stop(number) == 0
    assert not any(map(is_alive, workers))
    assert receiver.whole_log.count('"outcome":"stopped"') == 3
    assert not crashes(receiver.whole_log)


@pytest.mark.parametrize("seconds", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("everybody", [False, True], ids=["the parent", "each process"])
def test_a_stop_during_the_start_ends_all_of_them_in_order(
    everybody: bool, seconds: float, provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Each process is told by systemd, the parent alone by Kubernetes."""
    text = config(redis_server.url, f'issuer = "{provider.issuer}"', top="workers = 2")
    (tmp_path / "settings.toml").write_text(text)
    with (tmp_path / "log").open("wb") as log:
        parent = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--config", "settings.toml"],
            cwd=tmp_path, stdout=log, stderr=log,
            env=clean_environment() | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        wait_for(lambda: len(children_of(parent.pid)) == 2, "the workers are starting")
        workers = children_of(parent.pid)
        time.sleep(seconds)
        for pid in (parent.pid, *(workers if everybody else ())):
            os.kill(pid, signal.SIGTERM)
        assert parent.wait(30) == 0, (tmp_path / "log").read_text()
    finally:
        parent.kill()
        parent.wait()
    assert not any(map(is_alive, workers))
    assert not crashes((tmp_path / "log").read_text())


@pytest.mark.slow
def test_a_parent_that_is_killed_leaves_nobody_serving(receiver: Receiver) -> None:
    workers = workers_of(receiver)
    receiver.stop(signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, workers)), "the workers have ended", receiver)
    assert len(receiver.told("worker", outcome="orphan", action="stop")) == 2


@pytest.mark.slow
def test_a_worker_that_can_not_start_ends_the_service(
    provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    top = 'workers = 2\njournal = "file/journal.db"'
    text = config(redis_server.url, f'issuer = "{provider.issuer}"', top=top)
    receiver = Receiver(tmp_path, text)
    try:
        with pytest.raises(AssertionError, match="the receiver ended"):
            receiver.start()
        assert receiver.process is not None
        assert receiver.process.wait(10) == 1
    finally:
        receiver.stop(signal.SIGKILL)
    assert "can not start: journal:" in receiver.log
    assert "ended at its start, with status 1" in receiver.log
    assert not crashes(receiver.log)


@pytest.mark.slow
def test_another_receiver_on_the_same_address_is_noticed(
    receiver: Receiver, provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Sockets that share an address would also share it with a stranger's."""
    port = int(receiver.url.rpartition(":")[2])
    text = config(
        redis_server.url, f'issuer = "{provider.issuer}"', top="workers = 2", ports=(port, 0)
    )
    second = Receiver(tmp_path / "second", text)
    try:
        with pytest.raises(AssertionError, match="can not be used"):
            second.start()
    finally:
        second.stop(signal.SIGKILL)


@pytest.mark.slow
def test_there_is_one_embedded_server_for_all(provider: Provider, tmp_path: Path) -> None:

    top = f"workers = 2\nembedded_port = {free_port()}"
    text = config("embedded", f'issuer = "{provider.issuer}"', top=top)
    receiver = Receiver(tmp_path, text).start()
    try:
        assert requests_of(receiver, provider, ["e1", "e2", "e3"]) == [200] * 3
        assert receiver.log.count("embedded Redis for apps:") == 1
        began = time.monotonic()
        assert receiver.stop() == 0
        assert time.monotonic() - began < 20
    finally:
        receiver.stop(signal.SIGKILL)


def test_a_worker_that_is_stopped_alone_is_replaced_and_its_line_is_open_again(
    receiver: Receiver, provider: Provider
) -> None:
    """At its stop it had the kernel turn new connections away, on a socket that its successor
    goes on with."""
    victim, _ = workers_of(receiver)
    os.kill(victim, signal.SIGTERM)
    wait_for(lambda: not is_alive(victim), "it has ended", receiver)
    wait_for(lambda: receiver.readyz().status_code == 200, "all are ready again", receiver)
    assert requests_of(receiver, provider, [f"t{n}" for n in range(12)]) == [200] * 12
