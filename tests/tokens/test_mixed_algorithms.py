"""A provider that signs one client's logout token with another client's algorithm, as Keycloak did
before 26.7: the issuer has the algorithms, the clients none. Over HTTP."""

from pathlib import Path

import pytest

from backchannel_logout import AppKeys
from tests.support.providers.provider import Provider, private_key
from tests.support.receiver import Receiver, config
from tests.support.revocations import new_app
from tests.support.servers.redis_server import RedisServer

CLIENTS = {"es": "ES256", "ps": "PS256", "rs": "RS256"}
"""Each client with the algorithm of its ID tokens."""


def receiver_for(provider: Provider, redis_url: str, app: str, directory: Path) -> Receiver:
    clients = ", ".join(f'{{client_id = "{one}", app = "{app}"}}' for one in CLIENTS)
    lines = f'issuer = "{provider.issuer}"\npreset = "keycloak"\nalgorithms = {[*CLIENTS.values()]}'
    return Receiver(directory, config(redis_url, lines, clients=f"[{clients}]")).start()


@pytest.mark.parametrize("initiator", CLIENTS)
def test_each_client_is_logged_out_with_either_algorithm(
    initiator: str, shared_redis: RedisServer, tmp_path: Path
) -> None:
    """An algorithm that no client has is refused."""
    app = new_app()
    with Provider() as provider, shared_redis.client() as client:
        provider.keys = {
            alg: private_key("RS256" if alg == "PS256" else alg) for alg in CLIENTS.values()
        }
        receiver = receiver_for(provider, shared_redis.url, app, tmp_path)
        try:
            alg = CLIENTS[initiator]
            for one in CLIENTS:
                sid = f"{initiator}-{one}"
                token = provider.token(
                    aud=one, sid=sid, alg=alg, key=provider.keys[alg], header={"kid": alg}
                )
                assert receiver.post(token).status_code == 200
                assert client.exists(AppKeys(app).sid(provider.issuer, sid))
            foreign = provider.token(alg="RS512", key=provider.keys["RS256"], aud="rs")
            assert receiver.post(foreign).status_code == 400
        finally:
            receiver.stop()
