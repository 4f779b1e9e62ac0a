"""A session of a Keycloak realm with more sessions than a search covers."""

from pathlib import Path

import httpx
import pytest

from tests.admin.api_fixture import TOKEN
from tests.support.providers import keycloak_api
from tests.support.providers.keycloak_api import KeycloakApi
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

ALICE = "aaaaaaaa-0000-4000-8000-000000000001"

# One more than `SEARCH_PAGE` times `SEARCH_PAGES` of the adapter.
MANY = 10_001


def test_a_user_that_is_said_spares_keycloak_the_search(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with KeycloakApi() as api:
        for n in range(MANY):
            api.add(f"somebody-{n}", f"session-{n}")
        session, neighbour = api.add(ALICE), api.add(ALICE)
        sessions = f"""
[issuers.sessions]
kind = "keycloak"
api_url = "{api.origin}"
realm = "{keycloak_api.REALM}"
client_id = "{keycloak_api.CLIENT_ID}"
secret = "{keycloak_api.CLIENT_SECRET}"
"""
        text = config(redis_server.url, f'issuer = "{api.issuer}"', top=f'admin_token = "{TOKEN}"')
        receiver = Receiver(tmp_path / "receiver", text + sessions).start()

        def delete(query: str) -> httpx.Response:
            address = f"{receiver.admin_url}/api/sessions/{session}{query}"
            headers = {"authorization": f"Bearer {TOKEN}"}
            return receiver.http.delete(address, headers=headers, timeout=60)

        try:
            assert delete("").status_code == 502
            assert delete("?user=..%2F..").status_code == 400
            assert delete("?user=somebody-7").status_code == 404, "it is not theirs"
            assert session in api.alive()
            assert delete(f"?user={ALICE}").status_code == 202
            wait_for(lambda: session not in api.alive(), "it is deleted", receiver)
            assert neighbour in api.alive()
        finally:
            receiver.stop()
