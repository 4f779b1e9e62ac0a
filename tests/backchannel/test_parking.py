"""Parked tokens: which are kept, for how long, and what happens to them."""

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


class RecordingWriter:
    """Stands in for the writer: records revocations, or fails."""

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


class ParkingFixture:
    """A parking with one issuer, whose provider is ``provider``."""

    def __init__(self, path: Path, provider: Provider, client: Any, **bounds: int) -> None:
        path.write_text(config("redis://127.0.0.1", f'issuer = "{provider.issuer}"'))
        settings = load(path, {})
        issuer = settings.issuers[0]
        self.ahead = 0.0
        self.provider = provider
        self.keys = ProviderKeys(issuer, client)
        self.providers = {issuer.issuer: Issuer(issuer, self.keys)}
        self.writer = RecordingWriter()
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
async def new_fixture(
    tmp_path: Path, provider: Provider
) -> AsyncIterator[Callable[..., ParkingFixture]]:
    async with new_client() as client:
        made: list[ParkingFixture] = []

        def make(**bounds: int) -> ParkingFixture:
            made.append(ParkingFixture(tmp_path / "settings.toml", provider, client, **bounds))
            return made[-1]

        yield make
        for fixture in made:
            await fixture.keys.aclose()


@pytest.fixture
def fixture(new_fixture: Callable[..., ParkingFixture]) -> ParkingFixture:
    return new_fixture()


def around(provider: Provider, size: int) -> tuple[str, str]:
    """A good token of at most ``size`` bytes, and one slightly larger."""
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


async def test_a_key_set_settles_parked_tokens(
    fixture: ParkingFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Good tokens are written, one with a wrong signature is not, and each has its log line."""
    caplog.set_level(logging.INFO)
    forged = fixture.provider.token(sid="forged", key=private_key("RS256", 9))
    good = [fixture.provider.token(sid="a"), fixture.provider.token(sid="b")]
    fixture.park(good[0], forged, good[1])
    async with fixture.parking.running():
        await fixture.keys.refresh()
        await until(lambda: len(fixture.parking) == 0)
    assert fixture.sids == ["a", "b"]
    lines = [line for line in log_events(caplog, "logout") if line["parked_s"] is not None]
    assert [line["outcome"] for line in lines] == ["accepted", "refused", "accepted"]
    assert not any(token in caplog.text for token in (*good, forged))


async def test_a_token_is_validated_as_of_its_arrival(fixture: ParkingFixture) -> None:
    """It was valid when it arrived, and has expired since."""
    arrived_at = int(time.time()) - 400
    token = fixture.provider.token(sid="s", iat=arrived_at, exp=arrived_at + 60)
    fixture.park(token, arrived_at=arrived_at)
    async with fixture.parking.running():
        await fixture.keys.refresh()
        await until(lambda: len(fixture.parking) == 0)
    assert fixture.sids == ["s"]
    assert fixture.writer.written[0].event.received_at == arrived_at


async def test_a_token_whose_key_is_not_in_a_later_set_is_refused(
    fixture: ParkingFixture, caplog: pytest.LogCaptureFixture
) -> None:
    fixture.park(fixture.provider.token(header={"kid": "nobody"}, iat=int(time.time()) - 5))
    async with fixture.parking.running():
        await fixture.keys.refresh()
        await until(lambda: len(fixture.parking) == 0)
    assert log_events(caplog, "logout", outcome="refused", reason="key_unknown")
    assert fixture.sids == []


async def test_a_parked_token_with_a_bad_signature_waits_for_keys_newer_than_it(
    fixture: ParkingFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """The provider may use an old ``kid`` for a new key."""
    await fixture.keys.refresh()
    later = int(time.time()) + 3600
    new = private_key("RS256", 2)
    claims = {"iat": later, "exp": later + 120}
    fixture.park(fixture.provider.token(key=new, **claims), arrived_at=later)
    fixture.park(fixture.provider.token(key=private_key("RS256", 9)))
    async with fixture.parking.running():
        await fixture.keys.refresh()
        await until(lambda: len(fixture.parking) == 1)
        assert log_events(caplog, "logout", outcome="refused", reason="signature")
        fixture.provider.keys = {"k1": new}
        await fixture.keys.refresh()
        await until(lambda: len(fixture.parking) == 0)
    assert fixture.sids == ["sid-1"]


async def test_a_token_that_came_after_the_fetch_began_waits_for_the_next(
    fixture: ParkingFixture,
) -> None:
    later = int(time.time()) + 3600
    claims = {"iat": later, "exp": later + 120}
    fixture.park(fixture.provider.token(header={"kid": "next"}, **claims), arrived_at=later)
    async with fixture.parking.running():
        await fixture.keys.refresh()
        await fixture.keys.refresh()
        assert len(fixture.parking) == 1
        fixture.provider.keys = {"next": fixture.provider.keys["k1"]}
        await fixture.keys.refresh()
        await until(lambda: len(fixture.parking) == 0)
    assert fixture.sids == ["sid-1"]


async def test_a_token_from_the_future_waits_no_longer_than_others(
    fixture: ParkingFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can write an ``iat`` later than every fetch."""
    fixture.park(fixture.provider.token(header={"kid": "nobody"}, iat=int(time.time()) + 55))
    async with fixture.parking.running():
        await fixture.keys.refresh()
        await until(lambda: len(fixture.parking) == 0)
    assert log_events(caplog, "logout", outcome="refused", reason="key_unknown")


async def test_an_unwritten_token_stays_and_is_tried_again(
    fixture: ParkingFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "RETRY_SECONDS", 0.02)
    fixture.writer.broken = True
    fixture.park(fixture.provider.token(sid="s"))
    async with fixture.parking.running():
        await fixture.keys.refresh()
        await until(lambda: fixture.writer.tries >= 2)
        assert len(fixture.parking) == 1
        fixture.writer.broken = False
        await until(lambda: len(fixture.parking) == 0)
    assert fixture.sids == ["s"]


async def test_a_token_is_dropped_after_ten_minutes(
    fixture: ParkingFixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parking, "RETRY_SECONDS", 0.02)
    fixture.park(fixture.provider.token())
    fixture.ahead = MAX_STAY + 1
    async with fixture.parking.running():
        await until(lambda: len(fixture.parking) == 0)
    assert log_events(caplog, "logout", outcome="given_up")


@pytest.mark.parametrize(
    "changes",
    [{"aud": "other"}, {"exp": 1}, {"iat": 1}, {"nonce": "n"}, {"events": {}}, {"jti": 7}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_token_that_any_key_would_refuse_is_not_parked(
    changes: dict[str, Any], fixture: ParkingFixture
) -> None:
    fixture.park(fixture.provider.token(**changes))
    assert len(fixture.parking) == 0


def test_the_same_token_is_parked_once(fixture: ParkingFixture) -> None:
    token = fixture.provider.token()
    fixture.park(token, token)
    assert len(fixture.parking) == 1


@pytest.mark.parametrize("bound", ["max_tokens", "max_bytes"])
async def test_a_new_token_replaces_a_random_one(
    bound: str, new_fixture: Callable[..., ParkingFixture], caplog: pytest.LogCaptureFixture
) -> None:
    """The limit holds, and one log line covers the whole flood."""
    one = new_fixture().provider.token(sid="0")
    size = 3 if bound == "max_tokens" else 3 * (len(one) + ENTRY_BYTES) + 100
    fixture = new_fixture(**{bound: size})
    for n in range(9):
        fixture.park(fixture.provider.token(sid=str(n)))
        assert len(fixture.parking) == min(n + 1, 3)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert log_events(caplog, "parking", outcome="full", parked=2, turned_away=1)
    async with fixture.parking.running():
        await fixture.keys.refresh()
        await until(lambda: len(fixture.parking) == 0)
    assert len(fixture.sids) == 3
    assert "8" in fixture.sids
    fixture.park(fixture.provider.token(sid="later"))
    assert len(fixture.parking) == 1, "freed places are available again"


async def test_earlier_tokens_cannot_hold_all_places(
    new_fixture: Callable[..., ParkingFixture],
) -> None:
    """Forgeries fill the places, and a genuine token after them is applied."""
    fixture = new_fixture(max_tokens=40)
    for n in range(116):
        fixture.park(fixture.provider.token(header={"kid": f"x{n}"}, sid=f"forged-{n}"))
    fixture.park(fixture.provider.token(sid="genuine"))
    assert len(fixture.parking) == 40
    async with fixture.parking.running():
        await fixture.keys.refresh()
        await until(lambda: len(fixture.parking) == 0)
    assert fixture.sids == ["genuine"]


@pytest.mark.parametrize("over", [0, 1])
def test_a_token_much_larger_than_real_ones_is_not_parked(
    over: int, fixture: ParkingFixture, caplog: pytest.LogCaptureFixture
) -> None:
    fixture.park(around(fixture.provider, MAX_TOKEN)[over])
    assert len(fixture.parking) == (0 if over else 1)
    assert bool(log_events(caplog, "parking", outcome="too_large", turned_away=1)) == bool(over)


async def test_a_token_that_is_being_written_keeps_its_place(
    new_fixture: Callable[..., ParkingFixture], monkeypatch: pytest.MonkeyPatch
) -> None:
    """During a flood. Nothing fails, and its outcome is reported once."""
    fixture = new_fixture(max_tokens=1)
    writing, go_on = asyncio.Event(), asyncio.Event()
    write = fixture.writer.write

    async def slow(revocations: Sequence[Revocation], *, until: float) -> Written:
        writing.set()
        await go_on.wait()
        return await write(revocations, until=until)

    monkeypatch.setattr(fixture.writer, "write", slow)
    fixture.park(fixture.provider.token(sid="s"))
    async with fixture.parking.running():
        await fixture.keys.refresh()
        await writing.wait()
        fixture.park(*(fixture.provider.token(sid=str(n)) for n in range(9)))
        assert len(fixture.parking) == 1
        go_on.set()
        await until(lambda: len(fixture.parking) == 0)
    assert fixture.sids == ["s"]


def test_all_issuers_together_have_a_limit(
    fixture: ParkingFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(fixture.provider.token(sid="0")) + ENTRY_BYTES
    monkeypatch.setattr(parking, "MAX_BYTES", 2 * size + 100)
    fixture.park(*(fixture.provider.token(sid=str(n)) for n in range(9)))
    assert len(fixture.parking) == 2


@pytest.mark.parametrize("bound", ["max_tokens", "max_bytes"])
def test_zero_turns_parking_off(
    bound: str, new_fixture: Callable[..., ParkingFixture], caplog: pytest.LogCaptureFixture
) -> None:
    fixture = new_fixture(**{bound: 0})
    fixture.park(fixture.provider.token())
    assert len(fixture.parking) == 0
    assert caplog.text == ""


def test_parked_tokens_take_no_more_memory_than_counted(fixture: ParkingFixture) -> None:
    """Only the token's bytes are kept, nothing parsed."""
    tokens = [fixture.provider.token(sid=str(n)) for n in range(200)]
    fixture.park(*tokens[:1])
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        fixture.park(*tokens[1:])
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept <= sum(len(token) + ENTRY_BYTES for token in tokens)


async def test_the_end_logs_how_many_are_lost(
    fixture: ParkingFixture, caplog: pytest.LogCaptureFixture
) -> None:
    async with fixture.parking.running():
        fixture.park(fixture.provider.token(sid="a"), fixture.provider.token(sid="b"))
    assert log_events(caplog, "parking", outcome="lost", parked=2)


# -- with a real receiver --------------------------------------------------------------------


@pytest.mark.slow
def test_a_logout_during_a_rotation_is_answered_503_and_applied_when_the_key_arrives(
    receiver: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    """The provider sends once while its key server is down. The neighbour's session survives."""
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
def test_parked_tokens_survive_a_redis_outage_when_their_key_arrives(
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


def test_a_stop_logs_the_tokens_it_loses(receiver: Receiver, provider: Provider) -> None:
    provider.mode = "500"
    provider.rotate("k2")
    assert receiver.post(provider.token()).status_code == 503
    assert receiver.stop() == 0
    assert receiver.log_events("parking", outcome="lost", parked=1)
