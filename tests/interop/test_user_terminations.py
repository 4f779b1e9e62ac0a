"""Ending all sessions of a user at a real Keycloak and a real Kratos, with their own call."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.sessions.bulk import list_all
from app.sessions.termination.termination import Termination
from backchannel_logout import AppKeys
from tests.interop import kratos, kratos_dist
from tests.interop.browser import loopback_only
from tests.interop.keycloak import Keycloak
from tests.interop.test_keycloak_sessions import ROLES, SECRET, new_account
from tests.interop.test_keycloak_sessions import KeycloakSetup as Realm
from tests.sessions.termination_fixture import TerminationSetup, running
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.interop


async def end_all(
    setup: TerminationSetup, user: str, *, refresh_tokens: bool = False
) -> list[Termination]:
    """Begin it as the admin API does; returns each session's termination once it is over."""
    known_at, sessions = time.time(), await list_all(setup.provider, user)
    async with setup.terminations.all_of_user(
        setup.provider, user, refresh_tokens=refresh_tokens
    ) as of_user:
        begun = [
            await setup.terminations.begin(
                setup.provider, session, known_at=known_at, user_termination=of_user,
                refresh_tokens=refresh_tokens,
            )
            for session in sessions
        ]  # fmt: skip
    over = [await setup.wait_until_over(termination) for termination in begun]
    await setup.wait_until_user_over(user)
    return over


class RealProviderSetup(TerminationSetup):
    """A setup with the real provider; ``table`` holds the settings of its session API."""

    def __init__(self, table: str, server: RedisServer, tmp_path: Path) -> None:
        self._own_table = table
        super().__init__(None, server, tmp_path)  # type: ignore[arg-type]

    def _table(self, _: object) -> str:  # type: ignore[override]
        return self._own_table


async def test_kratos_deletes_them_all(shared_redis: RedisServer, tmp_path: Path) -> None:
    if why := kratos_dist.missing():
        pytest.skip(why)
    with kratos.running(tmp_path) as server:
        user, neighbour = server.new_user(), server.new_user()
        mine = [server.log_in(user).id for _ in range(3)]
        theirs = server.log_in(neighbour).id
        table = f'kind = "kratos"\nadmin_url = "{server.admin_url}"'
        async with running(RealProviderSetup(table, shared_redis, tmp_path)) as setup:
            over = await end_all(setup, user)
            assert {termination.session for termination in over} == set(mine)
            # Deleted and not just deactivated: there is nothing left to read.
            assert [await setup.provider.read(session_id) for session_id in mine] == [None] * 3
            assert await setup.provider.read(theirs) is not None
            for app in (setup.shop, setup.news):
                assert all(setup.marker(app, session_id) for session_id in mine)
                assert setup.redis.get(AppKeys(app).sub(setup.issuer, user)) is not None
                assert setup.redis.get(AppKeys(app).sub(setup.issuer, neighbour)) is None


@pytest.fixture
async def realm(keycloak: Keycloak, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Realm]:
    monkeypatch.setattr("app.sessions.api_client.calls.CALL_SECONDS", 60)
    found = keycloak.realm("alice", "bob")
    client = {"clientId": "shop-web", "publicClient": True, "directAccessGrantsEnabled": True}
    found.admin("POST", "/clients", client)
    new_account(found, "bcl-receiver", *ROLES)
    async with httpx.AsyncClient(**loopback_only() | {"timeout": 60}) as http:
        yield Realm(found, http, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("refresh_tokens", [False, True])
async def test_keycloak_voids_earlier_tokens_if_refresh_tokens_end_too(
    realm: Realm, shared_redis: RedisServer, tmp_path: Path, refresh_tokens: bool
) -> None:
    user, before = realm.realm.user_id("alice"), int(time.time())
    mine = {await realm.sign_in("alice") for _ in range(2)}
    mine.add(await realm.sign_in("alice", "openid offline_access"))
    bobs = await realm.sign_in("bob")
    table = (
        f'kind = "keycloak"\napi_url = "{realm.realm.keycloak.url}"\nclient_id = "bcl-receiver"\n'
        f'secret = "{SECRET}"\nrealm = "{realm.realm.issuer.rsplit("/", 1)[1]}"\n'
        f'token_url = "{realm.realm.issuer}/protocol/openid-connect/token"'
    )
    async with running(RealProviderSetup(table, shared_redis, tmp_path), give_up=120.0) as setup:
        over = await end_all(setup, user, refresh_tokens=refresh_tokens)
        assert {termination.session for termination in over} == mine
        assert await list_all(setup.provider, user) == ()
        assert await setup.provider.read(bobs) is not None
    not_before = realm.realm.admin("GET", f"/users/{user}")["notBefore"]
    assert not_before >= before if refresh_tokens else not_before == 0
