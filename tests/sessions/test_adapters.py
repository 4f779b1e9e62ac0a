"""What every adapter promises, held against each provider's API."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from app.sessions.api_client.path_segment import InvalidId
from app.sessions.bulk import list_all
from app.sessions.lifecycle import has_ended, is_active
from app.sessions.session_provider import FaultKind, ProviderFault
from tests.sessions.provider_fixtures import NOBODY, Stage, staged
from tests.support.api_server import Response
from tests.support.auth0_api import Auth0Api
from tests.support.keycloak_api import KeycloakApi
from tests.support.kratos_api import KratosApi

UNKNOWN = "00000000-0000-4000-8000-00000000dead"


APIS = {"auth0": Auth0Api, "kratos": KratosApi, "keycloak": KeycloakApi}

# Keycloak tells all sessions of a user at once, and has no endpoint that tells one.
WITH_PAGES = pytest.mark.parametrize("stage", ["auth0", "kratos"], indirect=True)


@pytest.fixture(params=APIS)
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with staged(APIS[request.param]()) as stage:
        yield stage


# -- list and read -------------------------------------------------------------------------


async def test_the_sessions_of_a_user_are_listed_and_no_neighbour_s(stage: Stage) -> None:
    mine = {stage.api.add(stage.alice), stage.api.add(stage.alice)}
    stage.api.add(stage.bob)
    found = await list_all(stage.adapter, stage.alice)
    assert {session.id for session in found} == mine
    assert {session.user_id for session in found} == {stage.alice}
    assert {session.issuer for session in found} == {stage.adapter.issuer}


@pytest.mark.slow
async def test_a_user_who_is_unknown_has_no_sessions(stage: Stage) -> None:
    stage.api.add(stage.bob)
    assert await list_all(stage.adapter, NOBODY) == ()


async def test_a_session_is_read_with_its_times(stage: Stage) -> None:
    one, now = stage.api.add(stage.alice), time.time()
    session = await stage.adapter.read(one, user_id=stage.alice)
    assert session is not None
    assert (session.id, session.user_id) == (one, stage.alice)
    assert session.authenticated_at is not None
    assert abs(session.authenticated_at - (now - 600)) < 5
    assert session.expires_at is not None
    assert session.expires_at > now
    assert is_active(session, now)
    assert not has_ended(session, refresh_tokens=False)


async def test_a_session_is_found_by_its_id_alone(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    session = await stage.adapter.read(one)
    assert session is not None
    assert session.user_id == stage.alice


async def test_an_unknown_id_is_no_session(stage: Stage) -> None:
    stage.api.add(stage.alice)
    assert await stage.adapter.read(UNKNOWN, user_id=stage.alice) is None
    assert await stage.adapter.read(UNKNOWN) is None


@WITH_PAGES
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
async def test_every_page_is_read(
    stage: Stage, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"app.sessions.providers.{stage.kind}.PAGE_SIZE", 2)
    mine = {stage.api.add(stage.alice) for _ in range(number)}
    found = await list_all(stage.adapter, stage.alice)
    assert {session.id for session in found} == mine
    assert len(stage.api.paths("GET")) == (number + 1) // 2


# -- end -----------------------------------------------------------------------------------


async def test_one_session_ends_and_its_neighbours_survive(stage: Stage) -> None:
    one, other, bobs = (stage.api.add(user) for user in (stage.alice, stage.alice, stage.bob))
    assert await stage.adapter.end(one)
    assert stage.api.alive() == {other, bobs}
    left = await stage.adapter.read(one, user_id=stage.alice)
    assert has_ended(left, refresh_tokens=False)


async def test_a_session_that_is_ended_twice_stays_ended(stage: Stage) -> None:
    one, bobs = stage.api.add(stage.alice), stage.api.add(stage.bob)
    await stage.adapter.end(one)
    # Kratos knows it still, as one that has ended; for the others there is none.
    assert await stage.adapter.end(one) is (stage.kind == "kratos")
    assert stage.api.alive() == {bobs}


async def test_an_unknown_session_is_not_ended(stage: Stage) -> None:
    assert not await stage.adapter.end(UNKNOWN)


@pytest.mark.parametrize("refresh_tokens", [False, True])
async def test_all_sessions_of_a_user_end(stage: Stage, refresh_tokens: bool) -> None:
    mine = {stage.api.add(stage.alice) for _ in range(3)}
    bobs = stage.api.add(stage.bob)
    ended = await stage.adapter.end_all(stage.alice, refresh_tokens=refresh_tokens)
    assert {session.id for session in ended} == mine
    assert stage.api.alive() == {bobs}


async def test_all_sessions_of_a_user_without_any_end_too(stage: Stage) -> None:
    bobs = stage.api.add(stage.bob)
    assert await stage.adapter.end_all(stage.alice) == ()
    assert stage.api.alive() == {bobs}


async def test_all_but_one_end(stage: Stage) -> None:
    keep, *others = (stage.api.add(stage.alice) for _ in range(3))
    bobs = stage.api.add(stage.bob)
    ended = await stage.adapter.end_others(stage.alice, keep=keep)
    assert {session.id for session in ended} == set(others)
    assert stage.api.alive() == {keep, bobs}


async def test_nothing_ends_when_the_one_to_keep_is_somebody_else_s(stage: Stage) -> None:
    mine, bobs = stage.api.add(stage.alice), stage.api.add(stage.bob)
    with pytest.raises(LookupError):
        await stage.adapter.end_others(stage.alice, keep=bobs)
    assert stage.api.alive() == {mine, bobs}


async def test_two_admins_at_once_end_a_session_once(stage: Stage) -> None:
    one, bobs = stage.api.add(stage.alice), stage.api.add(stage.bob)
    taken = await asyncio.gather(*(stage.adapter.end(one) for _ in range(2)))
    assert any(taken)
    assert stage.api.alive() == {bobs}


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
    "a 404 that says nothing": (Response(404, b"{}"), FaultKind.UNEXPECTED, "http_404"),
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

Act = Callable[[Stage, str], Awaitable[object]]

ACTS: dict[str, Act] = {
    "list": lambda stage, _: stage.adapter.list(stage.alice),
    "read": lambda stage, one: stage.adapter.read(one, user_id=stage.alice),
    "end": lambda stage, one: stage.adapter.end(one),
    "end_all": lambda stage, _: stage.adapter.end_all(stage.alice),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_is_told_and_nothing_follows_from_it(stage: Stage, name: str) -> None:
    answer, kind, detail = FAULTS[name]
    one = stage.api.add(stage.alice)
    stage.api.faults.extend([answer] * 99)
    for act_name, act in ACTS.items():
        if detail == "shape" and act_name == "end":
            continue  # what is in the answer to an end is not read
        with pytest.raises(ProviderFault) as caught:
            await act(stage, one)
        assert (caught.value.kind, caught.value.detail) == (kind, detail), act_name
    assert stage.api.alive() == {one}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["hang", "drip"])
async def test_a_provider_that_is_too_slow_is_not_waited_for(stage: Stage, how: str) -> None:
    one = stage.api.add(stage.alice)
    stage.api.faults.append(how)
    async with asyncio.timeout(60):
        with pytest.raises(ProviderFault) as caught:
            await stage.adapter.read(one, user_id=stage.alice)
    assert (caught.value.kind, caught.value.detail) == (FaultKind.UNAVAILABLE, "timeout")


async def test_a_provider_that_is_down_is_unavailable(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    stage.api._server.shutdown()
    stage.api._server.server_close()
    with pytest.raises(ProviderFault) as caught:
        await stage.adapter.read(one, user_id=stage.alice)
    assert (caught.value.kind, caught.value.detail.split("_")[-1]) == (
        FaultKind.UNAVAILABLE,
        "connection",
    )


# -- a provider that lies ------------------------------------------------------------------


async def test_somebody_else_s_session_in_a_list_is_a_fault(stage: Stage) -> None:
    whose = {"kratos": {"identity": {"id": stage.bob}}, "keycloak": {"userId": stage.bob}}
    one = stage.api.add(stage.alice)
    theirs = {"user_id": stage.bob} | whose.get(stage.kind, {})
    wrong = [stage.api.sessions[one] | theirs]
    stage.api.faults.append(Response(200, {"sessions": wrong} if stage.kind == "auth0" else wrong))
    with pytest.raises(ProviderFault) as caught:
        await stage.adapter.end_all(stage.alice)
    assert (caught.value.kind, caught.value.detail) == (FaultKind.UNEXPECTED, "wrong_user")
    assert stage.api.alive() == {one}


@WITH_PAGES
async def test_another_session_than_was_asked_for_is_a_fault(stage: Stage) -> None:
    one, other = stage.api.add(stage.alice), stage.api.add(stage.alice)
    stage.api.faults.append(Response(200, stage.api.sessions[other]))
    with pytest.raises(ProviderFault) as caught:
        await stage.adapter.read(one)
    assert (caught.value.kind, caught.value.detail) == (FaultKind.UNEXPECTED, "wrong_session")


@WITH_PAGES
async def test_pages_without_an_end_are_a_fault(stage: Stage) -> None:
    stage.api.add(stage.alice)
    if stage.kind == "auth0":
        page = Response(200, {"sessions": [], "next": "again"})
    else:
        one = stage.api.sessions[stage.api.add(stage.alice)]
        page = Response(200, [one], {"Link": '</x?page_token=again>; rel="next"'})
    stage.api.faults.extend([page] * 60)
    with pytest.raises(ProviderFault) as caught:
        await list_all(stage.adapter, stage.alice)
    assert caught.value.detail == "endless_pages"


# -- ids -----------------------------------------------------------------------------------

TRICKS = ["", ".", "..", "../users", "a/b", "a%2Fb", "..%2f..", "a\\b", "a\0b", "a\r\nb", "x" * 256]


async def test_a_path_trick_in_an_id_asks_nobody(stage: Stage) -> None:
    stage.api.add(stage.alice)
    for trick in TRICKS:
        for act in (
            stage.adapter.list(trick),
            stage.adapter.read(trick),
            stage.adapter.read(trick, user_id=stage.alice),
            stage.adapter.end(trick, refresh_tokens=True),
            stage.adapter.end_all(trick, refresh_tokens=True),
        ):
            with pytest.raises(InvalidId):
                await act
    assert stage.api.requests == []
