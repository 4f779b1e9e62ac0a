"""Requests that arrive together are processed together, and each gets its own response."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from app.backchannel.batch import MAX_BATCH
from app.backchannel.waiting import WaitingRequests
from app.config.load import load
from app.runtime.components import Components, running_components
from app.store.store import Result, Store
from app.telemetry.attempt_log import AttemptRecord
from app.telemetry.metrics.counters import Counters
from app.tokens import logout_token
from app.tokens.logout_token import LogoutToken
from app.tokens.signed_jwt import SignedClaims
from backchannel_logout import AppKeys
from tests.support.apps.listening import until
from tests.support.providers.provider import Provider
from tests.support.receiver import config
from tests.support.servers.redis_server import RedisServer

KEYS = AppKeys("shop")


@contextlib.asynccontextmanager
async def running(provider: Provider, redis: RedisServer, path: Path) -> AsyncIterator[Components]:
    """The components of a process, with its keys cached."""
    file = path / "settings.toml"
    file.write_text(config(redis.url, f'issuer = "{provider.issuer}"', top="max_in_flight = 2000"))
    settings = load(file, {})
    async with running_components(settings, redis.url, Counters(settings)) as parts:
        await until(parts.keys[provider.issuer].current, "the keys are there")
        yield parts


async def answered(parts: Components, tokens: list[str]) -> list[tuple[int, str]]:
    """Status and error of each, in order. All arrive in one turn of the event loop."""
    loop = asyncio.get_running_loop()
    given: list[asyncio.Future[Response]] = [loop.create_future() for _ in tokens]

    assert parts.fast_route is not None
    for token, future in zip(tokens, given, strict=True):
        body = f"logout_token={token}".encode()
        parts.fast_route.submit("application/x-www-form-urlencoded", body, future.set_result, None)
    async with asyncio.timeout(60):
        responses = await asyncio.gather(*given)
    return [(one.status_code, _error(bytes(one.body))) for one in responses]


def _error(body: bytes) -> str:
    told = json.loads(body or b"{}")
    return str(told.get("error_description", "")).partition(":")[0]


def forged(token: str) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{signature[:-8]}AAAAAAAA"


@pytest.fixture
def sid() -> str:
    return secrets.token_urlsafe()


async def test_each_request_of_a_batch_gets_its_own_response(
    shared_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sid: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with Provider() as provider:
        kinds: list[tuple[Callable[[int], str], tuple[int, str]]] = [
            (lambda n: provider.token(sid=f"{sid}{n}"), (200, "")),
            (lambda n: provider.token(sid=f"{sid}{n}", nonce="n"), (400, "nonce")),
            (lambda n: forged(provider.token(sid=f"{sid}{n}")), (400, "signature")),
            (lambda n: f"no token {sid}{n}", (400, "shape")),
            (lambda n: provider.token(sid=f"{sid}{n}", iss="https://other"), (400, "iss_unknown")),
        ]
        wanted = [(n, *kinds[n * 7 % 5]) for n in range(3 * MAX_BATCH + 5)]
        async with running(provider, shared_redis, tmp_path) as parts:
            answers = await answered(parts, [make(n) for n, make, _ in wanted])
        assert answers == [answer for _, _, answer in wanted]
        with shared_redis.client() as look:
            for n, _, (status, _) in wanted:
                marked = look.exists(KEYS.sid(provider.issuer, f"{sid}{n}"))
                assert bool(marked) == (status == 200), n


class Panic(BaseException):
    """Raised like a panic of a Rust library: not an `Exception`."""


@pytest.mark.parametrize("fault", [ZeroDivisionError, Panic])
async def test_a_bug_with_one_request_does_not_affect_the_others(
    fault: type[BaseException],
    shared_redis: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sid: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    validate = logout_token.validate

    def broken(signed: SignedClaims, *, now: float) -> LogoutToken:
        if signed.claims["sid"] == f"{sid}3":
            raise fault
        return validate(signed, now=now)

    monkeypatch.setattr(logout_token, "validate", broken)
    with Provider() as provider:
        async with running(provider, shared_redis, tmp_path) as parts:
            tokens = [provider.token(sid=f"{sid}{n}") for n in range(8)]
            statuses = [status for status, _ in await answered(parts, tokens)]
            assert statuses == [200, 200, 200, 503, 200, 200, 200, 200]
            monkeypatch.undo()
            again = await answered(parts, [tokens[3]])
            assert again == [(200, "")], "a retry succeeds"


async def test_a_panic_in_a_waiting_request_is_answered(
    shared_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sid: str
) -> None:
    monkeypatch.chdir(tmp_path)

    async def broken(*_: Any, **__: Any) -> None:
        raise Panic

    monkeypatch.setattr(WaitingRequests, "_process", broken)
    with Provider() as provider:
        async with running(provider, shared_redis, tmp_path) as parts:
            unknown = provider.token(sid=sid, header={"kid": "unknown"})
            answers = await answered(parts, [unknown, provider.token(sid=sid)])
    assert answers == [(503, "internal"), (200, "")]


async def test_requests_that_cannot_be_reported_are_answered_like_the_others(
    shared_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sid: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tell = AttemptRecord.report

    def broken(story: AttemptRecord, outcome: str, reason: str | None = None) -> None:
        if story.jwt is not None and story.jwt.unverified_claims["sid"] in (f"{sid}2", f"{sid}5"):
            raise ZeroDivisionError
        tell(story, outcome, reason)

    monkeypatch.setattr(AttemptRecord, "report", broken)
    with Provider() as provider:
        async with running(provider, shared_redis, tmp_path) as parts:
            tokens = [provider.token(sid=f"{sid}{n}") for n in range(8)]
            tokens[5:7] = map(forged, tokens[5:7])
            statuses = [status for status, _ in await answered(parts, tokens)]
    assert statuses == [200, 200, 503, 200, 200, 503, 400, 200]


async def test_one_batch_goes_to_redis_before_the_next_one_begins(
    shared_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sid: str
) -> None:
    """Otherwise nothing is left to do while Redis works."""
    monkeypatch.chdir(tmp_path)
    validate, write = logout_token.validate, Store.write
    judged, begun = list[str](), list[int]()

    def counted(signed: SignedClaims, *, now: float) -> LogoutToken:
        judged.append(signed.claims["sid"])
        return validate(signed, now=now)

    async def seen(store: Store, *given: Any, **options: Any) -> list[Result]:
        begun.append(len(judged))
        return await write(store, *given, **options)

    monkeypatch.setattr(logout_token, "validate", counted)
    monkeypatch.setattr(Store, "write", seen)
    with Provider() as provider:
        async with running(provider, shared_redis, tmp_path) as parts:
            tokens = [provider.token(sid=f"{sid}{n}") for n in range(2 * MAX_BATCH + 5)]
            answers = await answered(parts, tokens)
    assert answers == [(200, "")] * len(tokens)
    assert judged == [f"{sid}{n}" for n in range(len(tokens))], "in order of arrival"
    assert begun[0] == MAX_BATCH
