"""The contract of `SessionProvider`, with each provider's API."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from app.sessions.api_client.path_segment import InvalidId
from app.sessions.bulk import list_all
from app.sessions.lifecycle import has_ended, is_active
from app.sessions.session_provider import FaultKind, ProviderFault
from tests.sessions.provider_fixtures import NOBODY, AdapterSetup, adapter_setup
from tests.support.providers.api_server import Response
from tests.support.providers.auth0_api import Auth0Api
from tests.support.providers.keycloak_api import KeycloakApi
from tests.support.providers.kratos_api import KratosApi

UNKNOWN = "00000000-0000-4000-8000-00000000dead"


APIS = {"auth0": Auth0Api, "kratos": KratosApi, "keycloak": KeycloakApi}

# Keycloak lists all sessions of a user at once and has no endpoint for one session.
WITH_PAGES = pytest.mark.parametrize("setup", ["auth0", "kratos"], indirect=True)


@pytest.fixture(params=APIS)
async def setup(request: pytest.FixtureRequest) -> AsyncIterator[AdapterSetup]:
    async with adapter_setup(APIS[request.param]()) as setup:
        yield setup


# -- list and read -------------------------------------------------------------------------


async def test_only_the_user_s_own_sessions_are_listed(setup: AdapterSetup) -> None:
    mine = {setup.api.add(setup.alice), setup.api.add(setup.alice)}
    setup.api.add(setup.bob)
    found = await list_all(setup.adapter, setup.alice)
    assert {session.id for session in found} == mine
    assert {session.user_id for session in found} == {setup.alice}
    assert {session.issuer for session in found} == {setup.adapter.issuer}


@pytest.mark.slow
async def test_a_user_who_is_unknown_has_no_sessions(setup: AdapterSetup) -> None:
    setup.api.add(setup.bob)
    assert await list_all(setup.adapter, NOBODY) == ()


async def test_a_session_is_read_with_its_times(setup: AdapterSetup) -> None:
    session_id, now = setup.api.add(setup.alice), time.time()
    session = await setup.adapter.read(session_id, user_id=setup.alice)
    assert session is not None
    assert (session.id, session.user_id) == (session_id, setup.alice)
    assert session.authenticated_at is not None
    assert abs(session.authenticated_at - (now - 600)) < 5
    assert session.expires_at is not None
    assert session.expires_at > now
    assert is_active(session, now)
    assert not has_ended(session, refresh_tokens=False)


async def test_a_session_is_found_by_its_id_alone(setup: AdapterSetup) -> None:
    session_id = setup.api.add(setup.alice)
    session = await setup.adapter.read(session_id)
    assert session is not None
    assert session.user_id == setup.alice


async def test_an_unknown_id_is_no_session(setup: AdapterSetup) -> None:
    setup.api.add(setup.alice)
    assert await setup.adapter.read(UNKNOWN, user_id=setup.alice) is None
    assert await setup.adapter.read(UNKNOWN) is None


@WITH_PAGES
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
async def test_every_page_is_read(
    setup: AdapterSetup, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"app.sessions.providers.{setup.kind}.PAGE_SIZE", 2)
    mine = {setup.api.add(setup.alice) for _ in range(number)}
    found = await list_all(setup.adapter, setup.alice)
    assert {session.id for session in found} == mine
    assert len(setup.api.paths("GET")) == (number + 1) // 2


# -- end -----------------------------------------------------------------------------------


async def test_one_session_ends_and_its_neighbours_survive(setup: AdapterSetup) -> None:
    session_id, other, bobs = (
        setup.api.add(user) for user in (setup.alice, setup.alice, setup.bob)
    )
    assert await setup.adapter.end(session_id)
    assert setup.api.alive() == {other, bobs}
    left = await setup.adapter.read(session_id, user_id=setup.alice)
    assert has_ended(left, refresh_tokens=False)


async def test_a_session_that_is_ended_twice_stays_ended(setup: AdapterSetup) -> None:
    session_id, bobs = setup.api.add(setup.alice), setup.api.add(setup.bob)
    await setup.adapter.end(session_id)
    # Kratos still knows it, as ended; the others do not.
    assert await setup.adapter.end(session_id) is (setup.kind == "kratos")
    assert setup.api.alive() == {bobs}


async def test_an_unknown_session_is_not_ended(setup: AdapterSetup) -> None:
    assert not await setup.adapter.end(UNKNOWN)


@pytest.mark.parametrize("refresh_tokens", [False, True])
async def test_all_sessions_of_a_user_end(setup: AdapterSetup, refresh_tokens: bool) -> None:
    mine = {setup.api.add(setup.alice) for _ in range(3)}
    bobs = setup.api.add(setup.bob)
    ended = await setup.adapter.end_all(setup.alice, refresh_tokens=refresh_tokens)
    assert {session.id for session in ended} == mine
    assert setup.api.alive() == {bobs}


async def test_all_sessions_of_a_user_without_any_end_too(setup: AdapterSetup) -> None:
    bobs = setup.api.add(setup.bob)
    assert await setup.adapter.end_all(setup.alice) == ()
    assert setup.api.alive() == {bobs}


async def test_all_sessions_but_one_end(setup: AdapterSetup) -> None:
    keep, *others = (setup.api.add(setup.alice) for _ in range(3))
    bobs = setup.api.add(setup.bob)
    for session_id in others:
        assert await setup.adapter.end(session_id)
    assert setup.api.alive() == {keep, bobs}


async def test_two_admins_at_once_end_a_session_once(setup: AdapterSetup) -> None:
    session_id, bobs = setup.api.add(setup.alice), setup.api.add(setup.bob)
    taken = await asyncio.gather(*(setup.adapter.end(session_id) for _ in range(2)))
    assert any(taken)
    assert setup.api.alive() == {bobs}


# -- faults: none of them is "gone" --------------------------------------------------------

FAULTS: dict[str, tuple[Response | str, FaultKind, str]] = {
    "401": (Response(401), FaultKind.UNAUTHORIZED, "http_401"),
    "403": (Response(403), FaultKind.FORBIDDEN, "http_403"),
    "429": (Response(429, headers={"Retry-After": "60"}), FaultKind.LIMITED, "http_429"),
    "500": (Response(500), FaultKind.UNAVAILABLE, "http_500"),
    "503": (Response(503), FaultKind.UNAVAILABLE, "http_503"),
    "400": (Response(400, {"error": "bad"}), FaultKind.UNEXPECTED, "http_400"),
    "a proxy's 404": (Response(404, b"<html>404</html>"), FaultKind.UNEXPECTED, "http_404"),
    "another API's 404": (Response(404, {"detail": "none"}), FaultKind.UNEXPECTED, "http_404"),
    "a 404 without the provider's error": (Response(404, b"{}"), FaultKind.UNEXPECTED, "http_404"),
    "a redirect": (
        Response(302, headers={"Location": "/elsewhere"}), FaultKind.UNEXPECTED, "http_302",
    ),
    "a login page": (Response(200, b"<html>please sign in"), FaultKind.UNEXPECTED, "shape"),
    "another shape": (Response(200, {"sessions": 1}), FaultKind.UNEXPECTED, "shape"),
    "an endless answer": (Response(200, b" " * 3_000_000), FaultKind.UNEXPECTED, "too_large"),
    "a compressed answer": (
        Response(200, b"x", {"Content-Encoding": "gzip"}), FaultKind.UNEXPECTED, "content_encoding",
    ),
    "half an answer": ("cut", FaultKind.UNAVAILABLE, "connection"),
}  # fmt: skip

Act = Callable[[AdapterSetup, str], Awaitable[object]]

ACTS: dict[str, Act] = {
    "list": lambda setup, _: setup.adapter.list(setup.alice),
    "read": lambda setup, session_id: setup.adapter.read(session_id, user_id=setup.alice),
    "end": lambda setup, session_id: setup.adapter.end(session_id),
    "end_all": lambda setup, _: setup.adapter.end_all(setup.alice),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_raised_and_implies_nothing(setup: AdapterSetup, name: str) -> None:
    answer, kind, detail = FAULTS[name]
    session_id = setup.api.add(setup.alice)
    setup.api.faults.extend([answer] * 99)
    for act_name, act in ACTS.items():
        if detail == "shape" and act_name == "end":
            continue  # the response body of an end is not read
        with pytest.raises(ProviderFault) as caught:
            await act(setup, session_id)
        assert (caught.value.kind, caught.value.detail) == (kind, detail), act_name
    assert setup.api.alive() == {session_id}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hang", "drip"])
async def test_a_provider_that_is_too_slow_times_out(setup: AdapterSetup, how: str) -> None:
    session_id = setup.api.add(setup.alice)
    setup.api.faults.append(how)
    async with asyncio.timeout(60):
        with pytest.raises(ProviderFault) as caught:
            await setup.adapter.read(session_id, user_id=setup.alice)
    assert (caught.value.kind, caught.value.detail) == (FaultKind.UNAVAILABLE, "timeout")


async def test_a_provider_that_is_down_is_unavailable(setup: AdapterSetup) -> None:
    session_id = setup.api.add(setup.alice)
    setup.api.stop_listening()
    with pytest.raises(ProviderFault) as caught:
        await setup.adapter.read(session_id, user_id=setup.alice)
    assert (caught.value.kind, caught.value.detail.split("_")[-1]) == (
        FaultKind.UNAVAILABLE,
        "connection",
    )


# -- a provider that lies ------------------------------------------------------------------


async def test_another_user_s_session_in_a_list_is_a_fault(setup: AdapterSetup) -> None:
    whose = {"kratos": {"identity": {"id": setup.bob}}, "keycloak": {"userId": setup.bob}}
    session_id = setup.api.add(setup.alice)
    theirs = {"user_id": setup.bob} | whose.get(setup.kind, {})
    wrong = [setup.api.sessions[session_id] | theirs]
    setup.api.faults.append(Response(200, {"sessions": wrong} if setup.kind == "auth0" else wrong))
    with pytest.raises(ProviderFault) as caught:
        await setup.adapter.end_all(setup.alice)
    assert (caught.value.kind, caught.value.detail) == (FaultKind.UNEXPECTED, "wrong_user")
    assert setup.api.alive() == {session_id}


@WITH_PAGES
async def test_a_response_about_another_session_is_a_fault(setup: AdapterSetup) -> None:
    session_id, other = setup.api.add(setup.alice), setup.api.add(setup.alice)
    setup.api.faults.append(Response(200, setup.api.sessions[other]))
    with pytest.raises(ProviderFault) as caught:
        await setup.adapter.read(session_id)
    assert (caught.value.kind, caught.value.detail) == (FaultKind.UNEXPECTED, "wrong_session")


@WITH_PAGES
async def test_endless_pages_are_a_fault(setup: AdapterSetup) -> None:
    setup.api.add(setup.alice)
    if setup.kind == "auth0":
        page = Response(200, {"sessions": [], "next": "again"})
    else:
        session_id = setup.api.sessions[setup.api.add(setup.alice)]
        page = Response(200, [session_id], {"Link": '</x?page_token=again>; rel="next"'})
    setup.api.faults.extend([page] * 60)
    with pytest.raises(ProviderFault) as caught:
        await list_all(setup.adapter, setup.alice)
    assert caught.value.detail == "endless_pages"


# -- ids -----------------------------------------------------------------------------------

TRICKS = ["", ".", "..", "../users", "a/b", "a%2Fb", "..%2f..", "a\\b", "a\0b", "a\r\nb", "x" * 256]


async def test_an_id_with_a_path_trick_makes_no_call(setup: AdapterSetup) -> None:
    setup.api.add(setup.alice)
    for trick in TRICKS:
        for act in (
            setup.adapter.list(trick),
            setup.adapter.read(trick),
            setup.adapter.read(trick, user_id=setup.alice),
            setup.adapter.end(trick, refresh_tokens=True),
            setup.adapter.end_all(trick, refresh_tokens=True),
        ):
            with pytest.raises(InvalidId):
                await act
    assert setup.api.requests == []
