"""Keycloak: two kinds of session with one id, and limits that follow from the realm."""

from collections.abc import AsyncIterator

import pytest

from app.sessions.lifecycle import has_ended
from app.sessions.provider_session import Device
from app.sessions.providers import keycloak
from app.sessions.session_provider import FaultKind, ProviderFault
from tests.sessions.provider_fixtures import NOBODY, AdapterSetup, adapter_setup
from tests.support.providers.api_server import Response
from tests.support.providers.keycloak_api import KeycloakApi


@pytest.fixture
async def setup() -> AsyncIterator[AdapterSetup]:
    async with adapter_setup(KeycloakApi()) as setup:
        yield setup


async def test_everything_that_keycloak_reports_about_a_session_is_kept(
    setup: AdapterSetup,
) -> None:
    session_id = setup.api.add(setup.alice, rememberMe=True)
    session = await setup.adapter.read(session_id, user_id=setup.alice)
    assert session is not None
    assert session.first_device == session.last_device == Device(ip="192.0.2.1")
    assert session.clients == ("news-web", "shop-web")
    assert (session.persistent, session.offline) == (True, False)
    assert session.created_at == setup.api.sessions[session_id]["start"] / 1000
    assert session.last_seen_at == setup.api.sessions[session_id]["lastAccess"] / 1000


# -- when a session ends -------------------------------------------------------------------


async def test_the_ends_of_a_session_follow_from_the_realm(setup: AdapterSetup) -> None:
    session = await setup.adapter.read(setup.api.add(setup.alice), user_id=setup.alice)
    assert session is not None
    assert session.created_at is not None
    assert session.last_seen_at is not None
    assert session.expires_at == session.created_at + 36000
    assert session.idle_expires_at == session.last_seen_at + 1800


async def test_a_remembered_session_has_its_own_limits(setup: AdapterSetup) -> None:
    setup.api.realm |= {"rememberMe": True, "ssoSessionMaxLifespanRememberMe": 864000}
    session_id = setup.api.add(setup.alice, rememberMe=True)
    other = setup.api.add(setup.alice)
    found = {session.id: session for session in (await setup.adapter.list(setup.alice)).sessions}
    assert found[session_id].expires_at == (found[session_id].created_at or 0) + 864000
    assert found[other].expires_at == (found[other].created_at or 0) + 36000


@pytest.mark.parametrize("answer", [Response(403), Response(200, {"realm": "shop"})])
async def test_an_account_without_access_to_the_realm_assumes_keycloak_s_defaults(
    setup: AdapterSetup, answer: Response
) -> None:
    setup.api.faults.append(answer)
    found = await setup.adapter.lifetimes()
    assert (found.idle, found.absolute, found.source) == (1800, 36000, "Keycloak's defaults")


@pytest.mark.parametrize(("remember_me", "longest"), [(True, 864000), (False, 36000)])
async def test_the_longest_lifetimes_count(
    setup: AdapterSetup, remember_me: bool, longest: float
) -> None:
    setup.api.realm |= {"rememberMe": remember_me, "ssoSessionMaxLifespanRememberMe": 864000}
    assert (await setup.adapter.lifetimes()).absolute == longest


async def test_the_realm_is_cached_between_lists(setup: AdapterSetup) -> None:
    setup.api.add(setup.alice)
    for _ in range(3):
        await setup.adapter.list(setup.alice)
    assert setup.api.paths("GET").count("/admin/realms/shop") == 1


# -- offline sessions ----------------------------------------------------------------------


async def test_an_offline_session_is_listed_unless_a_browser_session_has_its_id(
    setup: AdapterSetup,
) -> None:
    both = setup.api.add(setup.alice)
    setup.api.add(setup.alice, both, offline=True)
    alone = setup.api.add(setup.alice, offline=True)
    found = {
        session.id: session.offline for session in (await setup.adapter.list(setup.alice)).sessions
    }
    assert found == {both: False, alone: True}


async def test_refresh_tokens_survive_unless_they_are_to_end_too(setup: AdapterSetup) -> None:
    session_id = setup.api.add(setup.alice)
    setup.api.add(setup.alice, session_id, offline=True)
    assert await setup.adapter.end(session_id)
    assert (setup.api.sessions, set(setup.api.offline)) == ({}, {session_id})
    left = await setup.adapter.read(session_id, user_id=setup.alice)
    assert has_ended(left, refresh_tokens=False)
    assert not has_ended(left, refresh_tokens=True)
    assert await setup.adapter.end(session_id, refresh_tokens=True)
    assert setup.api.offline == {}


async def test_all_sessions_end_one_by_one_each_by_its_own_id(setup: AdapterSetup) -> None:
    mine = {setup.api.add(setup.alice) for _ in range(3)}
    twin = setup.api.add(setup.alice, next(iter(mine)), offline=True)
    alone = setup.api.add(setup.alice, offline=True)
    ended = await setup.adapter.end_all(setup.alice)
    assert {session.id for session in ended} == {*mine, alone}
    assert setup.api.alive() == {twin}
    # That would void the refresh tokens too.
    assert setup.api.paths("POST") == ["/realms/shop/protocol/openid-connect/token"]


async def test_with_the_refresh_tokens_the_rest_of_the_user_is_signed_out_too(
    setup: AdapterSetup,
) -> None:
    session_id, offline = setup.api.add(setup.alice), setup.api.add(setup.alice, offline=True)
    ended = await setup.adapter.end_all(setup.alice, refresh_tokens=True)
    assert {session.id for session in ended} == {session_id, offline}
    assert setup.api.alive() == set()
    assert f"/admin/realms/shop/users/{setup.alice}/logout" in setup.api.paths("POST")


# -- a session whose user is not known -----------------------------------------------------


async def test_an_offline_session_is_found_by_its_id_alone(setup: AdapterSetup) -> None:
    session_id = setup.api.add(setup.alice, offline=True)
    session = await setup.adapter.read(session_id)
    assert session is not None
    assert session.offline


async def test_a_search_reads_every_page(
    setup: AdapterSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keycloak, "SEARCH_PAGE", 2)
    ids = [setup.api.add(setup.alice) for _ in range(5)]
    session = await setup.adapter.read(ids[-1])
    assert session is not None


async def test_an_abandoned_search_does_not_report_gone(
    setup: AdapterSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keycloak, "SEARCH_PAGE", 1)
    monkeypatch.setattr(keycloak, "SEARCH_PAGES", 2)
    ids = [setup.api.add(setup.alice) for _ in range(4)]
    with pytest.raises(ProviderFault) as caught:
        await setup.adapter.read(ids[-1])
    assert (caught.value.kind, caught.value.detail) == (FaultKind.UNEXPECTED, "too_many_sessions")


# -- whose 404 -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", ["Realm not found.", "HTTP 404 Not Found", "Client not found", "not found"]
)
async def test_a_404_caused_by_a_wrong_setting_does_not_mean_gone(
    setup: AdapterSetup, error: str
) -> None:
    setup.api.faults.extend([Response(404, {"error": error})] * 9)
    for act in (
        setup.adapter.list(NOBODY),
        setup.adapter.read("s1", user_id=NOBODY),
        setup.adapter.end("s1"),
    ):
        with pytest.raises(ProviderFault) as caught:
            await act
        assert (caught.value.kind, caught.value.detail) == (FaultKind.UNEXPECTED, "http_404")
