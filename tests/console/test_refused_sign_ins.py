"""Refused sign-ins are in the audit, and a flood of them does not displace other entries."""

from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from app.config.load import load
from app.console.sign_in.refused_sign_ins import MAX_BURST, THROTTLED, RefusedSignIns
from app.store.operator_streams import AUDIT
from app.store.topology import connect
from app.web.audit_log import AuditLog
from backchannel_logout.redis.connection import aclose
from tests.support.clock import Clock
from tests.support.receiver import config
from tests.support.servers.redis_server import RedisServer


def from_peer(peer: str) -> Request:
    return Request({"type": "http", "headers": [], "client": (peer, 40000)})


@pytest.fixture
async def refused(redis_server: RedisServer, tmp_path: Path, clock: Clock) -> Any:
    path = tmp_path / "settings.toml"
    path.write_text(config(redis_server.url, 'issuer = "https://op.example"'))
    client = connect(redis_server.url)
    yield RefusedSignIns(AuditLog(load(path, {}), client), clock)
    await aclose(client)


def entries(redis_server: RedisServer) -> list[dict[str, str]]:
    client: Any = redis_server.client()
    with client:
        return [fields for _, fields in client.xrange(AUDIT)]


async def test_a_flood_is_bounded_and_leaves_room_for_another_reason(
    refused: RefusedSignIns, redis_server: RedisServer, clock: Clock
) -> None:
    for n in range(3000):
        await refused.record(from_peer(f"192.0.2.{n % 250}"), "token")
        clock.now += 1
    await refused.record(
        from_peer("192.0.2.1"), "not_allowed", who="oidc:1 (Ada)", iss="https://op.example", sub="1"
    )
    recorded = entries(redis_server)
    assert MAX_BURST / 4 < len(recorded) <= MAX_BURST
    last = recorded[-1]
    assert (last["act"], last["outcome"], last["why"]) == (
        "console.sign_in", "refused", "not_allowed",
    )  # fmt: skip
    assert (last["who"], last["who_iss"]) == ("oidc:1 (Ada)", "https://op.example")


async def test_an_address_that_waits_is_noted_once_for_each_wait(
    refused: RefusedSignIns, redis_server: RedisServer, clock: Clock
) -> None:
    for _ in range(5):
        await refused.record(from_peer("192.0.2.1"), THROTTLED, wait=60)
        await refused.record(from_peer("192.0.2.2"), THROTTLED, wait=60)
    assert [one["peer"] for one in entries(redis_server)] == ["192.0.2.1", "192.0.2.2"]
    clock.now += 61
    await refused.record(from_peer("192.0.2.1"), THROTTLED, wait=60)
    assert len(entries(redis_server)) == 3
