"""A receiver with an Ory Kratos issuer, which sends no logout tokens."""

from pathlib import Path

import pytest

from tests.sessions.provider_fixtures import table_of
from tests.support.providers.kratos_api import KratosApi
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("beside_another", [False, True])
def test_a_kratos_issuer_is_ready_without_keys_and_refuses_tokens(
    tmp_path: Path, shared_redis: RedisServer, provider: Provider, beside_another: bool
) -> None:
    with KratosApi() as kratos, Provider() as other:
        table = "\n".join(f'{name} = "{value}"' for name, value in table_of(kratos).items())
        settings = f"""
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
account_listen = "127.0.0.1:0"
redis_url = "{shared_redis.url}"
journal = "off"
[[issuers]]
issuer = "{provider.issuer}"
[[issuers.clients]]
app = "shop"
[issuers.sessions]
{table}
"""
        if beside_another:
            settings += f"""
[[issuers]]
issuer = "{other.issuer}"
[[issuers.clients]]
client_id = "wiki-web"
app = "wiki"
"""
        receiver = Receiver(tmp_path, settings)
        receiver.start()
        try:
            ready = receiver.http.get(f"{receiver.admin_url}/readyz").json()
            assert ready["ready"]
            assert set(ready["issuers"]) == ({other.issuer} if beside_another else set())
            answer = receiver.post(provider.token())
            assert answer.status_code == 400
            assert answer.json()["error_description"].startswith("iss_unknown: ")
        finally:
            receiver.stop()
    assert provider.requests == {}
