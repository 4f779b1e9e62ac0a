"""Tokens that came before their key: what is kept, for how long, and what becomes of them."""

import asyncio
import contextlib
import logging
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.backchannel import parking
from app.backchannel.parked_tokens import ENTRY_BYTES
from app.backchannel.parking import MAX_STAY, MAX_TOKEN, Parking
from app.backchannel.pipeline import Attempt
from app.backchannel.pipeline import Provider as Issuer
from app.config.load import load
from app.errors import DependencyUnavailable, Outage
from app.publish.writer import Written
from app.revocation import Revocation
from app.telemetry.attempt_log import AttemptRecord, Reporter
from app.telemetry.metrics.counters import Counters
from app.tokens.fetch import new_client
from app.tokens.provider_keys import ProviderKeys
from backchannel_logout import AppKeys
from tests.support.providers.provider import Provider, private_key
from tests.support.receiver import Receiver, config, log_events, wait_for
from tests.support.servers.redis_server import RedisServer

KEYS = AppKeys("shop")


class Notebook:
    """Stands for the writer: notes what it is given, or is out of order."""

    def __init__(self) -> None:
        self.written: list[Revocation] = []
        self.broken = False
        self.tries = 0

    async def write(self, revocations: Sequence[Revocation], *, until: float) -> Written:
        del until
        self.tries += 1
        if self.broken:
            raise DependencyUnavailable(Outage.REDIS_UNAVAILABLE)
        self.written += revocations
        return Written.ACCEPTED


class Yard:
    """A parking with one issuer, whose provider is ``provider``."""

    def __init__(self, path: Path, provider: Provider, client: Any, **bounds: int) -> None:
        path.write_text(config("redis://127.0.0.1", f'issuer = "{provider.issuer}"'))
        settings = load(path, {})
        issuer = settings.issuers[0]
        self.ahead = 0.0
        self.provider = provider
        self.keys = ProviderKeys(issuer, client)
        self.providers = {issuer.issuer: Issuer(issuer, self.keys)}
        self.writer = Notebook()
        self.parking = Parking(
            self.providers.values(),
            self.writer,  # type: ignore[arg-type]
            reporter=Reporter(counters=Counters(settings)),
            clock=lambda: time.time() + self.ahead,
            **{"max_tokens": 5000, "max_bytes": 4 << 20} | bounds,
        )

    def park(self, *tokens: str, arrived_at: float | None = None) -> None:
        for token in tokens:
            at = time.time() if arrived_at is None else arrived_at
            attempt = Attempt(self.providers, AttemptRecord(Reporter(), 0), token.encode(), at)
            attempt.parse()
            self.parking.park(attempt)

    @property
    def sids(self) -> list[str | None]:
        return [one.event.sid for one in self.writer.written]


@pytest.fixture
async def new_yard(tmp_path: Path, provider: Provider) -> AsyncIterator[Callable[..., Yard]]:
    async with new_client() as client:
        made: list[Yard] = []

        def make(**bounds: int) -> Yard:
            made.append(Yard(tmp_path / "settings.toml", provider, client, **bounds))
            return made[-1]

        yield make
        for yard in made:
            await yard.keys.aclose()


@pytest.fixture
def yard(new_yard: Callable[..., Yard]) -> Yard:
    return new_yard()


def around(provider: Provider, size: int) -> tuple[str, str]:
    """A good token of so many bytes or a few less, and one of a few more."""
    length = (size - len(provider.token(x=""))) * 3 // 4 - 8
    token = longer = provider.token(x="x" * length)
    while len(longer) <= size:
        token, length = longer, length + 1
        longer = provider.token(x="x" * length)
    return token, longer


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_key_set_settles_what_is_parked(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    """Good tokens are written, one with a wrong signature is not, and each has its log line."""
    caplog.set_level(logging.INFO)
    forged = yard.provider.token(sid="forged", key=private_key("RS256", 9))
    good = [yard.provider.token(sid="a"), yard.provider.token(sid="b")]
    yard.park(good[0], forged, good[1])
    async with yard.parking.running():
        await yard.keys.refresh()
        await until(lambda: len(yard.parking) == 0)
    assert yard.sids == ["a", "b"]
    lines = [line for line in log_events(caplog, "logout") if line["parked_s"] is not None]
    assert [line["outcome"] for line in lines] == ["accepted", "refused", "accepted"]
    assert not any(token in caplog.text for token in (*good, forged))


async def test_a_token_is_judged_as_of_its_arrival(yard: Yard) -> None:
    """It has expired while it waited for us, and was good when it came."""
    arrived_at = int(time.time()) - 400
    token = yard.provider.token(sid="s", iat=arrived_at, exp=arrived_at + 60)
    yard.park(token, arrived_at=arrived_at)
    async with yard.parking.running():
        await yard.keys.refresh()
        await until(lambda: len(yard.parking) == 0)
    assert yard.sids == ["s"]
    assert yard.writer.written[0].event.received_at == arrived_at


async def test_a_token_whose_key_is_not_in_a_later_set_is_refused(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    yard.park(yard.provider.token(header={"kid": "nobody"}, iat=int(time.time()) - 5))
    async with yard.parking.running():
        await yard.keys.refresh()
        await until(lambda: len(yard.parking) == 0)
    assert log_events(caplog, "logout", outcome="refused", reason="key_unknown")
    assert yard.sids == []


async def test_a_token_that_came_after_the_fetch_began_waits_for_the_next(yard: Yard) -> None:
    later = int(time.time()) + 3600
    claims = {"iat": later, "exp": later + 120}
    yard.park(yard.provider.token(header={"kid": "next"}, **claims), arrived_at=later)
    async with yard.parking.running():
        await yard.keys.refresh()
        await yard.keys.refresh()
        assert len(yard.parking) == 1
        yard.provider.keys = {"next": yard.provider.keys["k1"]}
        await yard.keys.refresh()
        await until(lambda: len(yard.parking) == 0)
    assert yard.sids == ["sid-1"]


async def test_a_token_from_the_future_waits_no_longer_than_others(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can write an ``iat`` that no fetch has come after yet."""
    yard.park(yard.provider.token(header={"kid": "nobody"}, iat=int(time.time()) + 55))
    async with yard.parking.running():
        await yard.keys.refresh()
        await until(lambda: len(yard.parking) == 0)
    assert log_events(caplog, "logout", outcome="refused", reason="key_unknown")


async def test_what_can_not_be_written_stays_and_is_tried_again(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "RETRY_SECONDS", 0.02)
    yard.writer.broken = True
    yard.park(yard.provider.token(sid="s"))
    async with yard.parking.running():
        await yard.keys.refresh()
        await until(lambda: yard.writer.tries >= 2)
        assert len(yard.parking) == 1
        yard.writer.broken = False
        await until(lambda: len(yard.parking) == 0)
    assert yard.sids == ["s"]


async def test_ten_minutes_are_the_longest(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parking, "RETRY_SECONDS", 0.02)
    yard.park(yard.provider.token())
    yard.ahead = MAX_STAY + 1
    async with yard.parking.running():
        await until(lambda: len(yard.parking) == 0)
    assert log_events(caplog, "logout", outcome="given_up")


@pytest.mark.parametrize(
    "changes",
    [{"aud": "other"}, {"exp": 1}, {"iat": 1}, {"nonce": "n"}, {"events": {}}, {"jti": 7}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_token_that_no_key_could_save_gets_no_place(changes: dict[str, Any], yard: Yard) -> None:
    yard.park(yard.provider.token(**changes))
    assert len(yard.parking) == 0


def test_the_same_token_takes_no_second_place(yard: Yard) -> None:
    token = yard.provider.token()
    yard.park(token, token)
    assert len(yard.parking) == 1


@pytest.mark.parametrize("bound", ["max_tokens", "max_bytes"])
async def test_a_newcomer_takes_the_place_of_one_that_is_drawn(
    bound: str, new_yard: Callable[..., Yard], caplog: pytest.LogCaptureFixture
) -> None:
    """There are never more than the bound, and one line tells of the whole flood."""
    one = new_yard().provider.token(sid="0")
    size = 3 if bound == "max_tokens" else 3 * (len(one) + ENTRY_BYTES) + 100
    yard = new_yard(**{bound: size})
    for n in range(9):
        yard.park(yard.provider.token(sid=str(n)))
        assert len(yard.parking) == min(n + 1, 3)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert log_events(caplog, "parking", outcome="full", parked=2, turned_away=1)
    async with yard.parking.running():
        await yard.keys.refresh()
        await until(lambda: len(yard.parking) == 0)
    assert len(yard.sids) == 3
    assert "8" in yard.sids
    yard.park(yard.provider.token(sid="later"))
    assert len(yard.parking) == 1, "places that are given back are there again"


async def test_what_came_first_can_not_hold_the_places(new_yard: Callable[..., Yard]) -> None:
    """Forgeries fill them, and the honest token that comes then is applied."""
    yard = new_yard(max_tokens=40)
    for n in range(116):
        yard.park(yard.provider.token(header={"kid": f"x{n}"}, sid=f"forged-{n}"))
    yard.park(yard.provider.token(sid="honest"))
    assert len(yard.parking) == 40
    async with yard.parking.running():
        await yard.keys.refresh()
        await until(lambda: len(yard.parking) == 0)
    assert yard.sids == ["honest"]


@pytest.mark.parametrize("over", [0, 1])
def test_a_token_that_is_much_larger_than_real_ones_gets_no_place(
    over: int, yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    yard.park(around(yard.provider, MAX_TOKEN)[over])
    assert len(yard.parking) == (0 if over else 1)
    assert bool(log_events(caplog, "parking", outcome="too_large", turned_away=1)) == bool(over)


async def test_a_token_that_is_being_written_keeps_its_place(
    new_yard: Callable[..., Yard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood comes meanwhile. Nothing fails, and it is told once what has become of it."""
    yard = new_yard(max_tokens=1)
    writing, go_on = asyncio.Event(), asyncio.Event()
    write = yard.writer.write

    async def slow(revocations: Sequence[Revocation], *, until: float) -> Written:
        writing.set()
        await go_on.wait()
        return await write(revocations, until=until)

    monkeypatch.setattr(yard.writer, "write", slow)
    yard.park(yard.provider.token(sid="s"))
    async with yard.parking.running():
        await yard.keys.refresh()
        await writing.wait()
        yard.park(*(yard.provider.token(sid=str(n)) for n in range(9)))
        assert len(yard.parking) == 1
        go_on.set()
        await until(lambda: len(yard.parking) == 0)
    assert yard.sids == ["s"]


def test_all_issuers_together_have_a_bound(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(yard.provider.token(sid="0")) + ENTRY_BYTES
    monkeypatch.setattr(parking, "MAX_BYTES", 2 * size + 100)
    yard.park(*(yard.provider.token(sid=str(n)) for n in range(9)))
    assert len(yard.parking) == 2


@pytest.mark.parametrize("bound", ["max_tokens", "max_bytes"])
def test_zero_turns_it_off(
    bound: str, new_yard: Callable[..., Yard], caplog: pytest.LogCaptureFixture
) -> None:
    yard = new_yard(**{bound: 0})
    yard.park(yard.provider.token())
    assert len(yard.parking) == 0
    assert caplog.text == ""


def test_parked_tokens_keep_no_more_memory_than_they_count_for(yard: Yard) -> None:
    """Of a token its bytes are kept, and nothing that was parsed."""
    tokens = [yard.provider.token(sid=str(n)) for n in range(200)]
    yard.park(*tokens[:1])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yard.park(*tokens[1:])
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept <= sum(len(token) + ENTRY_BYTES for token in tokens)


async def test_the_end_tells_how_many_remain(yard: Yard, caplog: pytest.LogCaptureFixture) -> None:
    async with yard.parking.running():
        yard.park(yard.provider.token(sid="a"), yard.provider.token(sid="b"))
    assert log_events(caplog, "parking", outcome="lost", parked=2)


# -- with a real receiver --------------------------------------------------------------------


@pytest.mark.slow
def test_a_logout_during_a_rotation_is_told_503_and_happens_when_the_key_comes(
    receiver: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    """The provider sends once; its key server was down. The neighbour's session lives on."""
    provider.mode = "500"
    provider.rotate("k2")
    token = provider.token(sid="s")
    assert receiver.post(token).status_code == 503
    provider.mode = "ok"
    with redis_server.client() as client:
        marker = KEYS.sid(provider.issuer, "s")
        wait_for(lambda: client.exists(marker), "the logout is written", receiver)
        assert not client.exists(KEYS.sid(provider.issuer, "t"))
    assert token not in receiver.log
    wait_for(lambda: len(receiver.log_events("logout")) == 2, "it is told", receiver)
    (before, after) = receiver.log_events("logout")
    assert before["reason"] == "keys_unavailable"
    assert (after["outcome"], after["request_id"]) == ("accepted", before["request_id"])
    assert after["parked_s"] >= 0
    assert receiver.post(token).status_code == 200
    assert receiver.wait_for_log_event("logout", outcome="repeated")


@pytest.mark.slow
def test_parked_tokens_outlive_a_redis_that_is_away_when_their_key_comes(
    receiver: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    provider.mode = "500"
    provider.rotate("k2")
    assert receiver.post(provider.token(sid="s")).status_code == 503
    redis_server.stop()
    provider.mode = "ok"
    before = provider.key_fetches
    wait_for(lambda: provider.key_fetches > before, "the keys are fetched again", receiver)
    redis_server.start()
    with contextlib.closing(redis_server.client()) as client:
        marker = KEYS.sid(provider.issuer, "s")
        wait_for(lambda: client.exists(marker), "the logout is written", receiver)


def test_a_stop_tells_of_the_tokens_that_it_loses(receiver: Receiver, provider: Provider) -> None:
    provider.mode = "500"
    provider.rotate("k2")
    assert receiver.post(provider.token()).status_code == 503
    assert receiver.stop() == 0
    assert receiver.log_events("parking", outcome="lost", parked=1)
