"""Auth0's Management API: tokens, scopes, limits, and deletions that take a moment."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from app.sessions.lifecycle import has_ended
from app.sessions.provider_session import Device
from app.sessions.providers.auth0 import MAX_LIFETIMES
from app.sessions.session_provider import FaultKind, ProviderFault
from tests.sessions.provider_fixtures import Stage, staged
from tests.support.api_server import Response
from tests.support.auth0_api import Auth0Api, fault, limited


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(Auth0Api()) as stage:
        yield stage


def token_fetches(stage: Stage) -> int:
    return [request.path for request in stage.api.requests].count("/oauth/token")


# -- sessions ------------------------------------------------------------------------------


async def test_everything_that_auth0_tells_of_a_session_is_kept(stage: Stage) -> None:
    session = await stage.adapter.read(stage.api.add(stage.alice))
    assert session is not None
    assert session.first_device == Device(user_agent="Firefox/1", ip="192.0.2.1")
    assert session.last_device == Device(user_agent="Firefox/2", ip="192.0.2.2")
    assert session.methods == ("pwd",)
    assert session.clients == ("shop-web", "news-web")
    assert session.persistent is True
    assert session.idle_expires_at is not None
    assert session.expires_at is not None
    assert session.expires_at - session.idle_expires_at == pytest.approx(4 * 86400)


async def test_what_auth0_leaves_out_or_writes_otherwise_is_unknown(stage: Stage) -> None:
    one = stage.api.add(
        stage.alice, device=None, clients=None, authentication=None, cookie={"mode": "new"},
        idle_expires_at={"unknown": 1}, last_interacted_at=None, session_metadata={"a": "b"},
    )  # fmt: skip
    session = await stage.adapter.read(one)
    assert session is not None
    assert (session.methods, session.clients, session.persistent) == ((), (), None)
    assert (session.idle_expires_at, session.last_seen_at) == (None, None)
    assert session.first_device == Device()


async def test_a_deletion_is_taken_and_carried_out_later(stage: Stage) -> None:
    stage.api.lag = 3600
    one = stage.api.add(stage.alice)
    assert await stage.adapter.end(one)
    assert not has_ended(await stage.adapter.read(one), refresh_tokens=False)
    stage.api.carry_out(time.time() + 3600)
    assert has_ended(await stage.adapter.read(one), refresh_tokens=False)


async def test_refresh_tokens_survive_unless_they_are_to_end_too(stage: Stage) -> None:
    one, other, third = (stage.api.add(stage.alice) for _ in range(3))
    await stage.adapter.end(one)
    assert stage.api.refresh_tokens == {one, other, third}
    await stage.adapter.end(other, refresh_tokens=True)
    assert stage.api.refresh_tokens == {one, third}
    await stage.adapter.end_all(stage.alice, refresh_tokens=True)
    assert stage.api.refresh_tokens == {one}


# -- tokens --------------------------------------------------------------------------------


async def test_one_token_serves_many_calls_at_once(stage: Stage) -> None:
    ids = [stage.api.add(stage.alice) for _ in range(12)]
    await asyncio.gather(*(stage.adapter.read(one) for one in ids))
    assert token_fetches(stage) == 1


async def test_a_token_is_renewed_before_it_ends(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    await stage.adapter.read(one)
    later = stage.api.token_life - 30
    stage.adapter._calls._access._monotonic = lambda: time.monotonic() + later  # type: ignore[attr-defined]
    assert await stage.adapter.read(one) is not None
    assert token_fetches(stage) == 2
    assert len(stage.api.paths("GET")) == 2  # none of them was refused


async def test_a_token_that_is_refused_is_renewed_once(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    await stage.adapter.read(one)
    stage.api.tokens.clear()
    assert await stage.adapter.read(one) is not None
    assert token_fetches(stage) == 2


async def test_an_api_that_refuses_every_token_is_not_asked_again_and_again(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    stage.api.faults.extend([Response(401)] * 9)
    with pytest.raises(ProviderFault) as caught:
        await stage.adapter.read(one)
    assert caught.value.kind is FaultKind.UNAUTHORIZED
    assert (len(stage.api.paths("GET")), token_fetches(stage)) == (2, 2)


async def test_a_wrong_secret_is_told_once_and_not_tried_by_everybody(stage: Stage) -> None:
    stage.api._token = lambda _: Response(401, {"error": "access_denied"})
    found = await asyncio.gather(
        *(stage.adapter.read("s1") for _ in range(9)), return_exceptions=True
    )
    assert {(fault.kind, fault.detail) for fault in found if isinstance(fault, ProviderFault)} == {
        (FaultKind.UNAUTHORIZED, "token_http_401")
    }
    assert len(found) == 9
    assert token_fetches(stage) == 1
    assert stage.api.paths("GET") == []


@pytest.mark.parametrize(
    ("answer", "kind", "detail"),
    [
        (Response(500), FaultKind.UNAVAILABLE, "token_http_500"),
        (limited(60), FaultKind.LIMITED, "http_429"),
        (Response(302, headers={"Location": "/"}), FaultKind.UNEXPECTED, "token_http_302"),
        (Response(200, b"<html>"), FaultKind.UNEXPECTED, "token_shape"),
        (Response(200, {"access_token": "", "token_type": "Bearer"}), FaultKind.UNEXPECTED,
         "token_shape"),
        (Response(200, {"access_token": "a\r\nb", "token_type": "Bearer"}), FaultKind.UNEXPECTED,
         "token_shape"),
        (Response(200, {"access_token": "a", "token_type": "mac"}), FaultKind.UNEXPECTED,
         "token_shape"),
        (Response(200, {"access_token": "a", "token_type": "Bearer", "expires_in": -1}),
         FaultKind.UNEXPECTED, "token_shape"),
    ],
)  # fmt: skip
async def test_a_token_endpoint_that_does_not_work_is_a_fault(
    stage: Stage, answer: Response, kind: FaultKind, detail: str
) -> None:
    stage.api._token = lambda _: answer
    with pytest.raises(ProviderFault) as caught:
        await stage.adapter.read("s1")
    assert (caught.value.kind, caught.value.detail) == (kind, detail)
    assert stage.api.paths("GET") == []


async def test_a_caller_who_gives_up_takes_nobody_s_token_away(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    first = asyncio.create_task(stage.adapter.read(one))
    second = asyncio.create_task(stage.adapter.read(one))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None
    assert token_fetches(stage) == 1


async def test_neither_secret_nor_token_is_in_what_is_shown(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    await stage.adapter.read(one)
    stage.api.faults.extend([fault(403, "Forbidden", token) for token in stage.api.tokens])
    with pytest.raises(ProviderFault) as caught:
        await stage.adapter.read(one)
    shown = repr(caught.value) + str(caught.value) + repr(vars(stage.adapter))
    assert not [token for token in stage.api.tokens if token in shown]
    assert "secret of the machine" not in shown


# -- scopes and limits ---------------------------------------------------------------------


async def test_a_missing_scope_is_forbidden_and_never_gone(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    stage.api.scopes -= {"read:sessions", "delete:refresh_tokens"}
    for act in (
        stage.adapter.read(one),
        stage.adapter.list(stage.alice),
        stage.adapter.end(one, refresh_tokens=True),
    ):
        with pytest.raises(ProviderFault) as caught:
            await act
        assert caught.value.kind is FaultKind.FORBIDDEN
    assert await stage.adapter.end(one)


async def test_while_auth0_limits_nobody_asks(stage: Stage) -> None:
    ids = [stage.api.add(stage.alice) for _ in range(5)]
    stage.api.faults.append(limited(60))
    with pytest.raises(ProviderFault):
        await stage.adapter.read(ids[0])
    asked = len(stage.api.requests)
    for one in ids:
        with pytest.raises(ProviderFault) as caught:
            await stage.adapter.end(one)
        assert caught.value.kind is FaultKind.LIMITED
        assert caught.value.retry_after is not None
        assert 50 < caught.value.retry_after <= 60
    assert len(stage.api.requests) == asked


@pytest.mark.slow
async def test_a_limit_that_is_lifted_soon_is_waited_for(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    stage.api.faults.append(Response(429, headers={"Retry-After": "1"}))
    assert await stage.adapter.end(one)
    assert stage.api.alive() == set()


# -- lifetimes -----------------------------------------------------------------------------


async def test_the_tenant_s_own_lifetimes_are_read(stage: Stage) -> None:
    stage.api.settings = {"session_lifetime": 720, "idle_session_lifetime": 24}
    found = await stage.adapter.lifetimes()
    assert (found.absolute, found.idle) == (30 * 86400, 86400)


async def test_a_tenant_that_never_chose_has_auth0_s_defaults(stage: Stage) -> None:
    stage.api.settings = {}
    found = await stage.adapter.lifetimes()
    assert (found.absolute, found.idle) == (7 * 86400, 3 * 86400)


async def test_without_the_scope_for_them_the_longest_are_assumed(stage: Stage) -> None:
    stage.api.scopes.discard("read:tenant_settings")
    assert await stage.adapter.lifetimes() == MAX_LIFETIMES
