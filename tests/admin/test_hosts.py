"""The operators' listener refuses host names that a web page can choose."""

from pathlib import Path

import pytest

from app.admin.hosts import KnownHosts
from tests.support.providers.provider import Provider
from tests.support.raw_http import RawConnection
from tests.support.receiver import Receiver, config
from tests.support.servers.redis_server import RedisServer

PATHS = ["/livez", "/readyz", "/metrics", "/nowhere"]

KNOWN = [
    "localhost", "LOCALHOST:9000", "127.0.0.1:9000", "[::1]:9000", "[fd00::7]", "10.42.0.7:9000",
    "receiver", "receiver:9000", "receiver-admin.backchannel-logout.svc:9000",
    "receiver-admin.backchannel-logout.svc.cluster.local.:9000", "demo.localhost",
    "vm-7.europe.internal:9000", "ops.example", "OPS.example.:9000", "",
]  # fmt: skip
FOREIGN = [
    "evil.example", "evil.example:9000", "receiver.dev", "127.0.0.1.evil.example", "e.ops.example",
    "ops.example.evil.example", "receiver.svc.evil.example", "[evil.example]", "[::x", "0x7f.1",
    "localhost.evil.example.", "user@evil.example",
]  # fmt: skip


async def _nothing(*_: object) -> None: ...


@pytest.mark.parametrize(
    ("host", "known"), [*((host, True) for host in KNOWN), *((host, False) for host in FOREIGN)]
)
def test_a_name_that_anybody_can_register_is_foreign_unless_configured(
    host: str, known: bool
) -> None:
    assert KnownHosts(_nothing, ["Ops.Example"]).knows(host) is known


def test_health_and_metrics_are_not_shown_to_a_page_on_the_web(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    text = config(
        redis_server.url, f'issuer = "{provider.issuer}"', top='admin_hosts = ["ops.example"]'
    )
    receiver = Receiver(tmp_path / "receiver", text).start()
    try:
        for path in PATHS:
            with RawConnection(receiver.admin_url) as connection:
                for host, foreign in (("evil.example", True), ("ops.example", False)):
                    request = f"GET {path} HTTP/1.1\r\nHost: {host}:9000\r\n\r\n"
                    answer = connection.send(request.encode()).answer()
                    assert answer.startswith(b"HTTP/1.1 403 ") is foreign, (path, host)
                    assert b"cache-control: no-store" in answer
        with RawConnection(receiver.admin_url) as connection:
            # As HAProxy checks it, where nothing else is configured.
            assert connection.send(b"GET /readyz HTTP/1.0\r\n\r\n").answer()[9:12] == b"200"
    finally:
        receiver.stop()
