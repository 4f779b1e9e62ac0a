"""The adapter with a real Keycloak: its responses are as the stand-in assumes."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest

from app.config.issuers import IssuerSettings
from app.sessions.bulk import list_all
from app.sessions.lifecycle import has_ended, is_active
from app.sessions.providers.factory import session_provider
from app.sessions.session_provider import FaultKind, ProviderFault, SessionProvider
from app.tokens.fetch import new_client
from tests.interop.browser import loopback_only
from tests.interop.keycloak import Keycloak, Realm
from tests.sessions.provider_fixtures import NOBODY, tls

pytestmark = pytest.mark.interop

SECRET = "secret of the service account"
ROLES = ("view-users", "manage-users", "view-realm", "view-clients")

UNKNOWN = "00000000-0000-4000-8000-00000000dead"


@dataclass
class KeycloakSetup:
    """A realm whose users sign in by password, and its adapter."""

    realm: Realm
    http: httpx.AsyncClient
    adapter: SessionProvider
    powerless: SessionProvider
    """The same with an account without roles."""

    async def sign_in(self, login: str, scope: str = "openid") -> str:
        """A new session's id: the ``sid`` of its ID token."""
        answer = await self.http.post(
            f"{self.realm.issuer}/protocol/openid-connect/token",
            data={
                "grant_type": "password",
                "client_id": "shop-web",
                "username": login,
                "password": login,
                "scope": scope,
            },
        )
        assert answer.status_code == 200, answer.text
        token = answer.json()["id_token"]
        return str(jwt.decode(token, options={"verify_signature": False})["sid"])


def new_account(realm: Realm, client_id: str, *roles: str) -> None:
    """A client with a service account that has these roles of ``realm-management``."""
    realm.admin(
        "POST",
        "/clients",
        {
            "clientId": client_id,
            "secret": SECRET,
            "publicClient": False,
            "standardFlowEnabled": False,
            "serviceAccountsEnabled": True,
        },
    )
    if not roles:
        return
    [client] = realm.admin("GET", f"/clients?clientId={client_id}")
    [management] = realm.admin("GET", "/clients?clientId=realm-management")
    account = realm.admin("GET", f"/clients/{client['id']}/service-account-user")
    known = realm.admin("GET", f"/clients/{management['id']}/roles")
    realm.admin(
        "POST",
        f"/users/{account['id']}/role-mappings/clients/{management['id']}",
        [role for role in known if role["name"] in roles],
    )


def adapter_of(realm: Realm, client: httpx.AsyncClient, client_id: str) -> SessionProvider:
    table: dict[str, Any] = {"kind": "keycloak", "client_id": client_id, "secret": SECRET}
    issuer = {"issuer": realm.issuer, "clients": [{"client_id": "shop-web"}], "sessions": table}
    adapter = session_provider(IssuerSettings.model_validate(issuer), client)
    assert adapter is not None
    return adapter


@pytest.fixture
async def setup(
    keycloak: Keycloak, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[KeycloakSetup]:
    # It is slow on a machine that is busy with other tests.
    monkeypatch.setattr("app.sessions.api_client.calls.CALL_SECONDS", 60)
    realm = keycloak.realm("alice", "bob")
    realm.admin(
        "POST",
        "/clients",
        {"clientId": "shop-web", "publicClient": True, "directAccessGrantsEnabled": True},
    )
    new_account(realm, "bcl-receiver", *ROLES)
    new_account(realm, "bcl-no-roles")
    async with (
        new_client(tls()) as client,
        httpx.AsyncClient(**loopback_only() | {"timeout": 60}) as http,
    ):
        client.timeout = httpx.Timeout(60)
        right, wrong = (adapter_of(realm, client, one) for one in ("bcl-receiver", "bcl-no-roles"))
        yield KeycloakSetup(realm, http, right, wrong)


async def test_sessions_are_listed_read_and_ended_one_by_one(setup: KeycloakSetup) -> None:
    user = setup.realm.user_id("alice")
    one, other, bobs = [await setup.sign_in(login) for login in ("alice", "alice", "bob")]
    found = {session.id: session for session in await list_all(setup.adapter, user)}
    assert set(found) == {one, other}
    session = await setup.adapter.read(one, user_id=user)
    assert session == found[one]
    assert session == await setup.adapter.read(one)
    assert is_active(session, time.time())
    assert (session.user_id, session.clients) == (user, ("shop-web",))
    assert session.created_at is not None
    assert session.expires_at == session.created_at + 36000
    assert session.idle_expires_at == (session.last_seen_at or 0) + 1800

    assert await setup.adapter.end(one)
    left = await setup.adapter.read(one, user_id=user)
    assert has_ended(left, refresh_tokens=True)
    assert not await setup.adapter.end(one)
    assert [session.id for session in await list_all(setup.adapter, user)] == [other]
    assert await setup.adapter.read(bobs) is not None


async def test_keycloak_itself_reports_unknown_sessions_and_users(setup: KeycloakSetup) -> None:
    user = setup.realm.user_id("alice")
    assert await setup.adapter.read(UNKNOWN, user_id=user) is None
    assert await setup.adapter.read(UNKNOWN) is None
    assert not await setup.adapter.end(UNKNOWN, refresh_tokens=True)
    assert await list_all(setup.adapter, NOBODY) == ()
    assert await setup.adapter.end_all(NOBODY, refresh_tokens=True) == ()


@pytest.mark.parametrize("refresh_tokens", [False, True])
async def test_all_sessions_of_a_user_end_and_the_neighbour_s_survive(
    setup: KeycloakSetup, refresh_tokens: bool
) -> None:
    user = setup.realm.user_id("alice")
    mine = {await setup.sign_in("alice") for _ in range(3)}
    mine.add(await setup.sign_in("alice", "openid offline_access"))
    bobs = await setup.sign_in("bob")
    ended = await setup.adapter.end_all(user, refresh_tokens=refresh_tokens)
    assert {session.id for session in ended} == mine
    assert await list_all(setup.adapter, user) == ()
    assert await setup.adapter.read(bobs) is not None


async def test_an_offline_session_is_listed_and_ends_with_its_refresh_tokens(
    setup: KeycloakSetup,
) -> None:
    user = setup.realm.user_id("alice")
    sid = await setup.sign_in("alice", "openid offline_access")
    (session,) = await list_all(setup.adapter, user)
    assert (session.id, session.offline) == (sid, True)
    by_id = await setup.adapter.read(sid)
    assert by_id is not None
    assert by_id.offline
    assert not await setup.adapter.end(sid)
    assert await setup.adapter.end(sid, refresh_tokens=True)
    assert await setup.adapter.read(sid, user_id=user) is None


async def test_all_sessions_but_one_end(setup: KeycloakSetup) -> None:
    user = setup.realm.user_id("alice")
    keep, other = await setup.sign_in("alice"), await setup.sign_in("alice")
    assert await setup.adapter.end(other)
    assert [session.id for session in await list_all(setup.adapter, user)] == [keep]


async def test_an_account_without_roles_is_forbidden_and_nothing_is_gone(
    setup: KeycloakSetup,
) -> None:
    user, sid = setup.realm.user_id("alice"), await setup.sign_in("alice")
    for act in (
        setup.powerless.list(user),
        setup.powerless.read(sid, user_id=user),
        setup.powerless.read(sid),
        setup.powerless.end(sid),
        setup.powerless.end_all(user),
    ):
        with pytest.raises(ProviderFault) as caught:
            await act
        assert caught.value.kind is FaultKind.FORBIDDEN
    assert await setup.adapter.read(sid, user_id=user) is not None


async def test_a_realm_that_does_not_exist_is_a_fault_and_not_gone(setup: KeycloakSetup) -> None:
    table = {
        "kind": "keycloak", "client_id": "bcl-receiver", "secret": SECRET, "realm": "nowhere",
        "api_url": setup.realm.keycloak.url,
        "token_url": f"{setup.realm.issuer}/protocol/openid-connect/token",
    }  # fmt: skip
    issuer = {"issuer": setup.realm.issuer, "clients": [{"client_id": "shop"}], "sessions": table}
    async with new_client(tls()) as client:
        adapter = session_provider(IssuerSettings.model_validate(issuer), client)
        assert adapter is not None
        for act in (adapter.list(UNKNOWN), adapter.read(UNKNOWN), adapter.end(UNKNOWN)):
            with pytest.raises(ProviderFault):
                await act


async def test_lifetimes_are_those_of_the_realm(setup: KeycloakSetup) -> None:
    settings = {"rememberMe": True, "ssoSessionMaxLifespanRememberMe": 864000}
    setup.realm.admin("PUT", "", settings)
    found = await setup.adapter.lifetimes()
    assert (found.absolute, found.source) == (864000, "the realm's settings")
