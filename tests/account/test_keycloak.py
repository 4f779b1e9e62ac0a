"""Keycloak sessions whose refresh tokens a termination spares."""

import re
from pathlib import Path

import httpx
import pytest

from tests.account.account_fixture import SHOP_TOKEN, now, said
from tests.support.providers import keycloak_api
from tests.support.providers.keycloak_api import KeycloakApi
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

ALICE = "aaaaaaaa-0000-4000-8000-000000000001"


def test_refresh_tokens_that_an_end_has_spared_are_no_session_and_stay(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """Also for who ends it twice, from two tabs, or says "everywhere else" a second time."""
    with KeycloakApi() as api:
        own, other = api.add(ALICE), api.add(ALICE)
        api.add(ALICE, other, offline=True)
        alone = api.add(ALICE, offline=True)
        sessions = f"""
[issuers.sessions]
kind = "keycloak"
api_url = "{api.origin}"
realm = "{keycloak_api.REALM}"
client_id = "{keycloak_api.CLIENT_ID}"
secret = "{keycloak_api.CLIENT_SECRET}"
"""
        top = f"""
account_listen = "127.0.0.1:0"
account_apps = [{{app = "shop", token = "{SHOP_TOKEN}"}}]
"""
        text = config(redis_server.url, f'issuer = "{api.issuer}"', top=top)
        receiver = Receiver(tmp_path / "receiver", text + sessions).start()
        address = re.search(r"users' own sessions:\s+(http://\S+)/account", receiver.log)
        assert address
        url = address[1] + "/account/sessions"

        def ask(method: str, path: str = "") -> httpx.Response:
            session = {"iss": api.issuer, "sub": ALICE, "sid": own, "login_at": now() - 600}
            headers = {"authorization": f"Bearer {SHOP_TOKEN}", "bcl-session": said(session)}
            return receiver.http.request(method, url + path, headers=headers)

        try:
            assert ask("DELETE", f"/{other}").status_code == 200
            wait_for(lambda: other not in api.sessions, "gone", receiver)
            assert ask("DELETE", f"/{other}").json()["id"] == other
            assert {one["id"] for one in ask("GET").json()} == {own, alone}
            (ended,) = ask("DELETE").json()["sessions"]
            assert ended["id"] == alone
            wait_for(lambda: alone not in api.offline, "gone", receiver)
            assert other in api.offline
        finally:
            receiver.stop()
