"""Keycloak: two kinds of session under one id, and ends that follow from the realm."""

from collections.abc import AsyncIterator

import pytest

from app.sessions.lifecycle import has_ended
from app.sessions.provider_session import Device
from app.sessions.providers import keycloak
from app.sessions.session_provider import FaultKind, ProviderFault
from tests.sessions.provider_fixtures import NOBODY, Stage, staged
from tests.support.api_server import Response
from tests.support.keycloak_api import KeycloakApi


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(KeycloakApi()) as stage:
        yield stage


async def test_everything_that_keycloak_tells_of_a_session_is_kept(stage: Stage) -> None:
    one = stage.api.add(stage.alice, rememberMe=True)
    session = await stage.adapter.read(one, user_id=stage.alice)
    assert session is not None
    assert session.first_device == session.last_device == Device(ip="192.0.2.1")
    assert session.clients == ("news-web", "shop-web")
    assert (session.persistent, session.offline) == (True, False)
    assert session.created_at == stage.api.sessions[one]["start"] / 1000
    assert session.last_seen_at == stage.api.sessions[one]["lastAccess"] / 1000


# -- when a session ends -------------------------------------------------------------------


async def test_the_ends_of_a_session_follow_from_the_realm(stage: Stage) -> None:
    session = await stage.adapter.read(stage.api.add(stage.alice), user_id=stage.alice)
    assert session is not None
    assert session.created_at is not None
    assert session.last_seen_at is not None
    assert session.expires_at == session.created_at + 36000
    assert session.idle_expires_at == session.last_seen_at + 1800


async def test_a_session_that_is_remembered_has_ends_of_its_own(stage: Stage) -> None:
    stage.api.realm |= {"rememberMe": True, "ssoSessionMaxLifespanRememberMe": 864000}
    one = stage.api.add(stage.alice, rememberMe=True)
    other = stage.api.add(stage.alice)
    found = {session.id: session for session in (await stage.adapter.list(stage.alice)).sessions}
    assert found[one].expires_at == (found[one].created_at or 0) + 864000
    assert found[other].expires_at == (found[other].created_at or 0) + 36000


@pytest.mark.parametrize("answer", [Response(403), Response(200, {"realm": "shop"})])
async def test_an_account_that_may_not_see_the_realm_assumes_keycloak_s_defaults(
    stage: Stage, answer: Response
) -> None:
    stage.api.faults.append(answer)
    found = await stage.adapter.lifetimes()
    assert (found.idle, found.absolute, found.source) == (1800, 36000, "Keycloak's defaults")


@pytest.mark.parametrize(("remember_me", "longest"), [(True, 864000), (False, 36000)])
async def test_the_longest_sessions_are_those_that_count(
    stage: Stage, remember_me: bool, longest: float
) -> None:
    stage.api.realm |= {"rememberMe": remember_me, "ssoSessionMaxLifespanRememberMe": 864000}
    assert (await stage.adapter.lifetimes()).absolute == longest


async def test_the_realm_is_not_asked_for_with_every_list(stage: Stage) -> None:
    stage.api.add(stage.alice)
    for _ in range(3):
        await stage.adapter.list(stage.alice)
    assert stage.api.paths("GET").count("/admin/realms/shop") == 1


# -- offline sessions ----------------------------------------------------------------------


async def test_an_offline_session_is_listed_where_no_other_has_its_id(stage: Stage) -> None:
    both = stage.api.add(stage.alice)
    stage.api.add(stage.alice, both, offline=True)
    alone = stage.api.add(stage.alice, offline=True)
    found = {one.id: one.offline for one in (await stage.adapter.list(stage.alice)).sessions}
    assert found == {both: False, alone: True}


async def test_refresh_tokens_survive_unless_they_are_to_end_too(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    stage.api.add(stage.alice, one, offline=True)
    assert await stage.adapter.end(one)
    assert (stage.api.sessions, set(stage.api.offline)) == ({}, {one})
    left = await stage.adapter.read(one, user_id=stage.alice)
    assert has_ended(left, refresh_tokens=False)
    assert not has_ended(left, refresh_tokens=True)
    assert await stage.adapter.end(one, refresh_tokens=True)
    assert stage.api.offline == {}


async def test_all_sessions_end_one_by_one_each_by_its_own_id(stage: Stage) -> None:
    mine = {stage.api.add(stage.alice) for _ in range(3)}
    twin = stage.api.add(stage.alice, next(iter(mine)), offline=True)
    alone = stage.api.add(stage.alice, offline=True)
    ended = await stage.adapter.end_all(stage.alice)
    assert {session.id for session in ended} == {*mine, alone}
    assert stage.api.alive() == {twin}
    # It would make the refresh tokens void as well.
    assert stage.api.paths("POST") == ["/realms/shop/protocol/openid-connect/token"]


async def test_with_the_refresh_tokens_the_rest_of_the_user_is_signed_out_too(
    stage: Stage,
) -> None:
    one, offline = stage.api.add(stage.alice), stage.api.add(stage.alice, offline=True)
    ended = await stage.adapter.end_all(stage.alice, refresh_tokens=True)
    assert {session.id for session in ended} == {one, offline}
    assert stage.api.alive() == set()
    assert f"/admin/realms/shop/users/{stage.alice}/logout" in stage.api.paths("POST")


async def test_an_offline_session_that_stands_alone_ends_with_the_others(stage: Stage) -> None:
    keep, other = stage.api.add(stage.alice), stage.api.add(stage.alice)
    offline = stage.api.add(stage.alice, offline=True)
    ended = await stage.adapter.end_others(stage.alice, keep=keep)
    assert {session.id for session in ended} == {other, offline}
    assert stage.api.alive() == {keep}


# -- a session whose user is not known -----------------------------------------------------


async def test_an_offline_session_is_found_by_its_id_alone(stage: Stage) -> None:
    one = stage.api.add(stage.alice, offline=True)
    session = await stage.adapter.read(one)
    assert session is not None
    assert session.offline


async def test_a_search_goes_through_every_page(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keycloak, "SEARCH_PAGE", 2)
    ids = [stage.api.add(stage.alice) for _ in range(5)]
    session = await stage.adapter.read(ids[-1])
    assert session is not None


async def test_a_search_that_is_given_up_does_not_say_gone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keycloak, "SEARCH_PAGE", 1)
    monkeypatch.setattr(keycloak, "SEARCH_PAGES", 2)
    ids = [stage.api.add(stage.alice) for _ in range(4)]
    with pytest.raises(ProviderFault) as caught:
        await stage.adapter.read(ids[-1])
    assert (caught.value.kind, caught.value.detail) == (FaultKind.UNEXPECTED, "too_many_sessions")


# -- whose 404 -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", ["Realm not found.", "HTTP 404 Not Found", "Client not found", "not found"]
)
async def test_a_404_of_a_wrong_setting_is_not_gone(stage: Stage, error: str) -> None:
    stage.api.faults.extend([Response(404, {"error": error})] * 9)
    for act in (
        stage.adapter.list(NOBODY),
        stage.adapter.read("s1", user_id=NOBODY),
        stage.adapter.end("s1"),
    ):
        with pytest.raises(ProviderFault) as caught:
            await act
        assert (caught.value.kind, caught.value.detail) == (FaultKind.UNEXPECTED, "http_404")
