"""The demonstration provider's session API, driven by the receiver's adapter for Auth0."""

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import redis

from app.config.issuers import IssuerSettings
from app.config.load import load
from app.sessions.bulk import list_all
from app.sessions.providers.auth0 import Auth0
from app.sessions.providers.factory import session_provider
from app.sessions.session_provider import FaultKind, ProviderFault
from app.tokens.fetch import new_client
from backchannel_logout.contract.keys import AppKeys
from tests.examples.op import CONFIG, Op, sign_in
from tests.sessions.provider_fixtures import tls
from tests.support.receiver import ROOT, Receiver, clean_environment, config, wait_for
from tests.support.servers.redis_server import RedisServer, free_port

ALICE, BOB = "demo|alice", "demo|bob"


def issuer_of(name: str, secret: str) -> IssuerSettings:
    sessions = {"kind": "auth0", "client_id": "session-api", "secret": secret}
    return IssuerSettings.model_validate(
        {"issuer": name, "clients": [{"client_id": "shop-web"}], "sessions": sessions}
    )


@contextlib.asynccontextmanager
async def adapter_of(op: Op, secret: str = CONFIG.api_token) -> AsyncIterator[Auth0]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(op.app)) as client:
        adapter = session_provider(issuer_of(CONFIG.issuer, secret), client)
        assert isinstance(adapter, Auth0)
        yield adapter


async def test_the_adapter_lists_reads_and_ends_its_sessions(op: Op) -> None:
    laptop, phone, bobs = op.browser("Laptop/1"), op.browser("Phone/1"), op.browser()
    for browser in (laptop, phone):
        await sign_in(browser)
    await sign_in(bobs, "bob")
    kept, ended, third = [await op.sid(browser) for browser in (laptop, phone, bobs)]
    async with adapter_of(op) as adapter:
        found = await list_all(adapter, ALICE)
        assert {session.id for session in found} == {kept, ended}
        session = await adapter.read(ended)
        assert session is not None
        assert (session.user_id, session.first_device.user_agent) == (ALICE, "Phone/1")
        assert session.clients == ("shop-web",)
        assert await adapter.end(ended, refresh_tokens=True)
        assert await adapter.read(ended) is None
        assert not await adapter.end(ended)
        assert await adapter.read(kept) is not None
        assert [one.id for one in await adapter.end_all(BOB)] == [third]
        assert await list_all(adapter, BOB) == ()


async def test_it_reports_the_lifetimes_of_sessions(op: Op) -> None:
    async with adapter_of(op) as adapter:
        found = await adapter.lifetimes()
    assert (found.idle, found.absolute) == (3 * 86400, 30 * 86400)


async def test_a_machine_needs_the_right_secret(op: Op) -> None:
    async with adapter_of(op, "wrong") as adapter:
        with pytest.raises(ProviderFault) as caught:
            await adapter.list(ALICE)
    assert caught.value.kind is FaultKind.UNAUTHORIZED


async def test_a_machines_token_expires(op: Op) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": "session-api",
        "client_secret": CONFIG.api_token,
        "audience": f"{CONFIG.issuer}/api/v2/",
    }
    machine = op.browser()
    granted = (await machine.post("/oauth/token", data=form)).json()
    headers = {"authorization": f"Bearer {granted['access_token']}"}
    path = "/api/v2/users/demo%7Calice/sessions"
    assert (await machine.get(path, headers=headers)).status_code == 200
    op.clock += granted["expires_in"]
    assert (await machine.get(path, headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"client_secret": "wrong"}, 401),
        ({"client_id": "shop-web"}, 401),
        ({"grant_type": "password"}, 400),
        ({"audience": "https://other.example/"}, 403),
    ],
)
async def test_other_requests_get_no_token(op: Op, change: dict[str, str], status: int) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": "session-api",
        "client_secret": CONFIG.api_token,
        "audience": f"{CONFIG.issuer}/api/v2/",
    }
    assert (await op.browser().post("/oauth/token", data=form | change)).status_code == status


@pytest.mark.slow
async def test_an_end_by_the_adapter_reaches_redis_with_the_providers_own_token(
    tmp_path: Path, shared_redis: RedisServer
) -> None:
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    body = f'issuer = "{issuer}"\n[issuers.sessions]\nkind = "auth0"\nclient_id = "session-api"'
    text = (
        config(shared_redis.url, clients="").rstrip("\n")
        + f"""
[[issuers]]
clients = [{{client_id = "shop-web", app = "driven"}}]
{body}
secret = "token-of-the-api"
"""
    )
    receiver = Receiver(tmp_path / "receiver", text).start(ready=False)
    settings = tmp_path / "provider.toml"
    settings.write_text(f"""
port = {port}
api_token = "token-of-the-api"
[[clients]]
client_id = "shop-web"
client_secret = "secret of shop: +%"
redirect_uri = "http://shop.example/callback"
backchannel_logout_uri = "{receiver.url}/backchannel-logout"
""")
    provider = _start(settings)
    try:
        await _drive(issuer, tmp_path / "receiver" / "settings.toml", shared_redis)
    finally:
        provider.terminate()
        provider.wait(20)
        receiver.stop()


def _start(settings: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo_provider", str(settings)],
        cwd=ROOT, env=clean_environment(), stderr=subprocess.DEVNULL,
    )  # fmt: skip


async def _drive(issuer: str, settings: Path, server: RedisServer) -> None:
    op = Op()
    async with op.http, new_client(tls()) as client:
        adapter = session_provider(load(settings, {}).issuers[0], client)
        assert adapter is not None
        async with httpx.AsyncClient(base_url=issuer) as browser:
            wait_for(lambda: _answers(issuer), "the provider answers")
            await sign_in(browser)
            (session,) = await list_all(adapter, ALICE)
            code = await op.code(browser)
            answer = await browser.post(
                "/token",
                data={
                    "grant_type": "authorization_code",
                    "code": code,
                    "redirect_uri": "http://shop.example/callback",
                    "code_verifier": "v" * 43,
                    "client_id": "shop-web",
                    "client_secret": "secret of shop: +%",
                },
            )
            assert answer.status_code == 200
            assert await adapter.end(session.id)
        key = AppKeys("driven").sid(issuer, session.id)
        with redis.Redis.from_url(server.url) as connection:
            wait_for(lambda: connection.exists(key), "the marker is written")
        assert await adapter.read(session.id) is None


def _answers(issuer: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{issuer}/jwks").status_code == 200
    return False
