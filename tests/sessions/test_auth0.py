"""Auth0's Management API: tokens, scopes, limits, and deletions that take a moment."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from app.sessions.lifecycle import has_ended
from app.sessions.provider_session import Device
from app.sessions.providers.auth0 import MAX_LIFETIMES
from app.sessions.session_provider import FaultKind, ProviderFault
from tests.sessions.provider_fixtures import AdapterSetup, adapter_setup
from tests.support.providers.api_server import Response
from tests.support.providers.auth0_api import Auth0Api, fault, limited


@pytest.fixture
async def setup() -> AsyncIterator[AdapterSetup]:
    async with adapter_setup(Auth0Api()) as setup:
        yield setup


def token_fetches(setup: AdapterSetup) -> int:
    return [request.path for request in setup.api.requests].count("/oauth/token")


# -- sessions ------------------------------------------------------------------------------


async def test_everything_that_auth0_reports_about_a_session_is_kept(setup: AdapterSetup) -> None:
    session = await setup.adapter.read(setup.api.add(setup.alice))
    assert session is not None
    assert session.first_device == Device(user_agent="Firefox/1", ip="192.0.2.1")
    assert session.last_device == Device(user_agent="Firefox/2", ip="192.0.2.2")
    assert session.methods == ("pwd",)
    assert session.clients == ("shop-web", "news-web")
    assert session.persistent is True
    assert session.idle_expires_at is not None
    assert session.expires_at is not None
    assert session.expires_at - session.idle_expires_at == pytest.approx(4 * 86400)


async def test_members_that_auth0_omits_or_writes_differently_are_unknown(
    setup: AdapterSetup,
) -> None:
    session_id = setup.api.add(
        setup.alice, device=None, clients=None, authentication=None, cookie={"mode": "new"},
        idle_expires_at={"unknown": 1}, last_interacted_at=None, session_metadata={"a": "b"},
    )  # fmt: skip
    session = await setup.adapter.read(session_id)
    assert session is not None
    assert (session.methods, session.clients, session.persistent) == ((), (), None)
    assert (session.idle_expires_at, session.last_seen_at) == (None, None)
    assert session.first_device == Device()


async def test_a_deletion_is_accepted_and_carried_out_later(setup: AdapterSetup) -> None:
    setup.api.lag = 3600
    session_id = setup.api.add(setup.alice)
    assert await setup.adapter.end(session_id)
    assert not has_ended(await setup.adapter.read(session_id), refresh_tokens=False)
    setup.api.carry_out_all()
    assert has_ended(await setup.adapter.read(session_id), refresh_tokens=False)


async def test_refresh_tokens_survive_unless_they_are_to_end_too(setup: AdapterSetup) -> None:
    session_id, other, third = (setup.api.add(setup.alice) for _ in range(3))
    await setup.adapter.end(session_id)
    assert setup.api.refresh_tokens == {session_id, other, third}
    await setup.adapter.end(other, refresh_tokens=True)
    assert setup.api.refresh_tokens == {session_id, third}
    await setup.adapter.end_all(setup.alice, refresh_tokens=True)
    assert setup.api.refresh_tokens == {session_id}


# -- tokens --------------------------------------------------------------------------------


async def test_one_token_serves_many_calls_at_once(setup: AdapterSetup) -> None:
    ids = [setup.api.add(setup.alice) for _ in range(12)]
    await asyncio.gather(*(setup.adapter.read(session_id) for session_id in ids))
    assert token_fetches(setup) == 1


async def test_a_token_is_renewed_before_it_expires(setup: AdapterSetup) -> None:
    session_id = setup.api.add(setup.alice)
    await setup.adapter.read(session_id)
    later = setup.api.token_life - 30
    setup.adapter._calls.access._monotonic = lambda: time.monotonic() + later  # type: ignore[attr-defined]
    assert await setup.adapter.read(session_id) is not None
    assert token_fetches(setup) == 2
    assert len(setup.api.paths("GET")) == 2  # neither token was rejected


async def test_a_rejected_token_is_renewed_once(setup: AdapterSetup) -> None:
    session_id = setup.api.add(setup.alice)
    await setup.adapter.read(session_id)
    setup.api.tokens.clear()
    assert await setup.adapter.read(session_id) is not None
    assert token_fetches(setup) == 2


async def test_an_api_that_rejects_every_token_is_not_called_repeatedly(
    setup: AdapterSetup,
) -> None:
    session_id = setup.api.add(setup.alice)
    setup.api.faults.extend([Response(401)] * 9)
    with pytest.raises(ProviderFault) as caught:
        await setup.adapter.read(session_id)
    assert caught.value.kind is FaultKind.UNAUTHORIZED
    assert (len(setup.api.paths("GET")), token_fetches(setup)) == (2, 2)


async def test_a_wrong_secret_is_tried_once_for_all_callers(setup: AdapterSetup) -> None:
    setup.api._token = lambda _: Response(401, {"error": "access_denied"})
    found = await asyncio.gather(
        *(setup.adapter.read("s1") for _ in range(9)), return_exceptions=True
    )
    assert {(fault.kind, fault.detail) for fault in found if isinstance(fault, ProviderFault)} == {
        (FaultKind.UNAUTHORIZED, "token_http_401")
    }
    assert len(found) == 9
    assert token_fetches(setup) == 1
    assert setup.api.paths("GET") == []


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
async def test_a_failing_token_endpoint_is_a_fault(
    setup: AdapterSetup, answer: Response, kind: FaultKind, detail: str
) -> None:
    setup.api._token = lambda _: answer
    with pytest.raises(ProviderFault) as caught:
        await setup.adapter.read("s1")
    assert (caught.value.kind, caught.value.detail) == (kind, detail)
    assert setup.api.paths("GET") == []


async def test_a_cancelled_caller_does_not_cancel_the_others_token_fetch(
    setup: AdapterSetup,
) -> None:
    session_id = setup.api.add(setup.alice)
    first = asyncio.create_task(setup.adapter.read(session_id))
    second = asyncio.create_task(setup.adapter.read(session_id))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None
    assert token_fetches(setup) == 1


async def test_neither_secret_nor_token_is_in_a_repr_or_a_fault(setup: AdapterSetup) -> None:
    session_id = setup.api.add(setup.alice)
    await setup.adapter.read(session_id)
    setup.api.faults.extend([fault(403, "Forbidden", token) for token in setup.api.tokens])
    with pytest.raises(ProviderFault) as caught:
        await setup.adapter.read(session_id)
    shown = repr(caught.value) + str(caught.value) + repr(vars(setup.adapter))
    assert not [token for token in setup.api.tokens if token in shown]
    assert "secret of the machine" not in shown


# -- scopes and limits ---------------------------------------------------------------------


async def test_a_missing_scope_is_forbidden_and_never_gone(setup: AdapterSetup) -> None:
    session_id = setup.api.add(setup.alice)
    setup.api.scopes -= {"read:sessions", "delete:refresh_tokens"}
    for act in (
        setup.adapter.read(session_id),
        setup.adapter.list(setup.alice),
        setup.adapter.end(session_id, refresh_tokens=True),
    ):
        with pytest.raises(ProviderFault) as caught:
            await act
        assert caught.value.kind is FaultKind.FORBIDDEN
    assert await setup.adapter.end(session_id)


async def test_no_call_is_made_while_auth0_limits(setup: AdapterSetup) -> None:
    ids = [setup.api.add(setup.alice) for _ in range(5)]
    setup.api.faults.append(limited(60))
    with pytest.raises(ProviderFault):
        await setup.adapter.read(ids[0])
    asked = len(setup.api.requests)
    for session_id in ids:
        with pytest.raises(ProviderFault) as caught:
            await setup.adapter.end(session_id)
        assert caught.value.kind is FaultKind.LIMITED
        assert caught.value.retry_after is not None
        assert 50 < caught.value.retry_after <= 60
    assert len(setup.api.requests) == asked


@pytest.mark.slow
async def test_a_call_waits_for_a_short_limit(setup: AdapterSetup) -> None:
    session_id = setup.api.add(setup.alice)
    setup.api.faults.append(Response(429, headers={"Retry-After": "1"}))
    assert await setup.adapter.end(session_id)
    assert setup.api.alive() == set()


# -- lifetimes -----------------------------------------------------------------------------


async def test_the_tenant_s_own_lifetimes_are_read(setup: AdapterSetup) -> None:
    setup.api.settings = {"session_lifetime": 720, "idle_session_lifetime": 24}
    found = await setup.adapter.lifetimes()
    assert (found.absolute, found.idle) == (30 * 86400, 86400)


async def test_a_tenant_without_own_values_has_auth0_s_defaults(setup: AdapterSetup) -> None:
    setup.api.settings = {}
    found = await setup.adapter.lifetimes()
    assert (found.absolute, found.idle) == (7 * 86400, 3 * 86400)


async def test_without_the_scope_the_longest_lifetimes_are_assumed(setup: AdapterSetup) -> None:
    setup.api.scopes.discard("read:tenant_settings")
    assert await setup.adapter.lifetimes() == MAX_LIFETIMES
