"""The examples for Starlette, FastAPI and Flask as processes, each with two browsers."""

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import astuple, dataclass

import httpx
import jwt
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from backchannel_logout import AppKeys
from examples.demo.browser import Browser
from examples.demo.ports import Ports, url
from examples.demo.processes import running
from tests.support.receiver import Receiver, clean_environment, config
from tests.support.servers.redis_server import RedisServer

APPS = ("relying_app", "fastapi_app", "flask_app")

# Seconds that a connection may outlive its session: one, and the rest is for a busy machine.
CLOSED_WITHIN = 30.0

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


@dataclass(frozen=True)
class RunningApps:
    """One provider, one receiver, one Redis, and several apps."""

    provider_url: str
    app_urls: dict[str, str]
    redis: RedisServer
    http: httpx.AsyncClient
    """A client without a sign-in."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningApps]:
    directory = tmp_path_factory.mktemp("web-frameworks")
    provider_port, *app_ports = astuple(Ports.choose(friendly=False))
    ports = dict(zip(APPS, app_ports, strict=False))
    provider_url, secret = url(provider_port), secrets.token_urlsafe(24)
    # The names of the clients are those of the apps.
    clients = ", ".join(f'{{client_id = "{app}"}}' for app in APPS)
    receiver = Receiver(
        directory,
        config(shared_redis.url, f'issuer = "{provider_url}"', clients=f"[{clients}]"),
    )
    environ = clean_environment() | {
        "NO_PROXY": "127.0.0.1",
        "ISSUER": provider_url,
        "CLIENT_SECRET": secret,
        "REDIS_URL": shared_redis.url,
        "SESSION_SECRET": secrets.token_urlsafe(24),
    }
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=30))

        async def start(name: str, well: str, *more: str, **environment: str) -> None:
            module, log = f"examples.{name}", directory / f"{name}.log"
            child = await stack.enter_async_context(
                running(name, module, *more, log_path=log, environ=environ | environment)
            )
            await child.until(lambda: _answers(http, well))

        stack.callback(receiver.stop)
        await asyncio.to_thread(receiver.start)
        settings = directory / "provider.toml"
        settings.write_text(_provider_settings(provider_port, ports, secret, receiver), "utf-8")
        await start("demo_provider", f"{provider_url}/jwks", str(settings))
        starts = (
            start(app, url(port), CLIENT_ID=app, APP=app, PORT=str(port))
            for app, port in ports.items()
        )
        await asyncio.gather(*starts)
        app_urls = {app: url(port) for app, port in ports.items()}
        yield RunningApps(provider_url, app_urls, shared_redis, http)
    for log in directory.glob("*_app.log"):
        assert "ERROR" not in log.read_text("utf-8"), log.read_text("utf-8")


def _provider_settings(port: int, apps: dict[str, int], secret: str, receiver: Receiver) -> str:
    lines = [f"port = {port}", 'api_token = "unused"']
    for app, app_port in apps.items():
        lines += [
            "[[clients]]",
            f'client_id = "{app}"',
            f'client_secret = "{secret}"',
            f'redirect_uri = "{url(app_port)}/callback"',
            f'backchannel_logout_uri = "{receiver.url}/backchannel-logout"',
            f'post_logout_redirect_uri = "{url(app_port)}/"',
        ]
    return "\n".join(lines) + "\n"


async def _answers(http: httpx.AsyncClient, address: str) -> bool:
    try:
        return (await http.get(address)).status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class Visitor:
    """A browser of Alice, signed in at the provider and at one app."""

    site: RunningApps
    app_url: str
    browser: Browser

    @property
    def http(self) -> httpx.AsyncClient:
        return self.browser._http

    @property
    def cookies(self) -> str:
        """The browser's cookie header, as an attacker could copy it."""
        return "; ".join(f"{one.name}={one.value}" for one in self.http.cookies.jar)

    async def sign_in(self) -> None:
        await self.browser.open(self.app_url)
        await self.browser.follow("Sign in")
        await self.browser.press("user", "demo|alice")

    async def me(self) -> httpx.Response:
        """On a busy machine a check may time out, and 503 means "try again"."""
        async with asyncio.timeout(60):
            while (answer := await self.browser.fetch(f"{self.app_url}/me")).status_code == 503:
                await asyncio.sleep(0.05)
        return answer

    async def me_after_the_end(self) -> httpx.Response:
        """A Redis that is slow, and a near cache, learn of a logout after its answer."""
        async with asyncio.timeout(60):
            while (answer := await self.me()).status_code == 200:
                await asyncio.sleep(0.05)
        return answer

    async def sid(self) -> str:
        """This browser's session, from the provider's page."""
        shown = (await self.browser.fetch(f"{self.site.provider_url}/sessions")).text
        found = re.search(r'this browser.*?name="session_id" value="([^"]+)"', shown, re.DOTALL)
        assert found, shown
        return found[1]

    async def end(self, other: "Visitor") -> None:
        """Ends the other session on the provider's page, which answers after the delivery."""
        sid = await other.sid()
        await self.browser.open(f"{self.site.provider_url}/sessions")
        await self.browser.submit_with("session_id", sid)


@contextlib.asynccontextmanager
async def two_visitors(site: RunningApps, app: str) -> AsyncIterator[tuple[Visitor, Visitor]]:
    """Alice, signed in on her phone and on her laptop."""
    async with Browser("Phone/1") as phone, Browser("Laptop/1") as laptop:
        visitors = [Visitor(site, site.app_urls[app], one) for one in (phone, laptop)]
        await asyncio.gather(*(one.sign_in() for one in visitors))
        assert [(await one.me()).status_code for one in visitors] == [200, 200]
        yield visitors[0], visitors[1]


@pytest.mark.parametrize("app", APPS)
async def test_an_ended_session_is_dead_and_the_other_is_alive(app: str, site: RunningApps) -> None:
    async with two_visitors(site, app) as (phone, laptop):
        sid = await phone.sid()
        copy = {"Cookie": phone.cookies}

        await laptop.end(phone)

        answer = await phone.me_after_the_end()
        assert (answer.status_code, answer.json()) == (401, {"error": "session_ended"})
        assert answer.headers["cache-control"] == "no-store"
        assert (await laptop.me()).status_code == 200
        with site.redis.client() as redis:
            assert redis.get(AppKeys(app).sid(site.provider_url, sid)) is not None
        assert (await site.http.get(f"{phone.app_url}/me", headers=copy)).status_code == 401


@pytest.mark.parametrize("app", ["fastapi_app", "flask_app"])
async def test_a_page_of_an_ended_session_leads_to_the_providers_login(
    app: str, site: RunningApps
) -> None:
    async with two_visitors(site, app) as (phone, laptop):
        await laptop.end(phone)

        async def ask() -> httpx.Response:
            return await phone.http.get(phone.app_url, headers={"Accept": "text/html"})

        async with asyncio.timeout(60):
            while not (page := await ask()).history:  # its session is still served, or it is 503
                await asyncio.sleep(0.05)
        assert str(page.url).startswith(f"{site.provider_url}/login?")
        assert [one.status_code for one in page.history] == [303, 302, 303]
        assert (await laptop.me()).status_code == 200


@pytest.mark.parametrize("app", APPS)
async def test_a_sign_out_at_the_app_ends_its_session(app: str, site: RunningApps) -> None:
    async with two_visitors(site, app) as (phone, laptop):
        page = await phone.http.post(f"{phone.app_url}/logout")
        assert str(page.url).startswith(f"{site.provider_url}/end-session")
        asked = page.url.params
        assert asked["post_logout_redirect_uri"] == f"{phone.app_url}/"
        assert jwt.decode(asked["id_token_hint"], options={"verify_signature": False})["sid"]
        assert (await phone.me()).status_code == 401
        assert (await laptop.me()).status_code == 200


async def test_flask_gives_the_session_a_new_id_at_the_login(site: RunningApps) -> None:
    """Prevents session fixation."""
    async with Browser("Phone/1") as browser:
        phone = Visitor(site, site.app_urls["flask_app"], browser)
        await browser.open(f"{phone.app_url}/login")
        planted = phone.http.cookies["flask_app"]
        await browser.press("user", "demo|alice")
        assert (await phone.me()).status_code == 200
        assert phone.http.cookies["flask_app"] != planted
        headers = {"Cookie": f"flask_app={planted}"}
        assert (await site.http.get(f"{phone.app_url}/me", headers=headers)).status_code == 401


@pytest.mark.parametrize("app", APPS)
async def test_an_unsolicited_callback_signs_no_user_in(app: str, site: RunningApps) -> None:
    async with Browser("Stranger/1") as browser:
        address = site.app_urls[app]
        answer = await browser.fetch(f"{address}/callback?code=x&state=y")
        assert answer.status_code == 400
        assert (await browser.fetch(f"{address}/me")).status_code == 401


async def test_flask_refuses_a_code_with_the_state_of_another_login(site: RunningApps) -> None:
    """Otherwise an attacker's code would sign the browser in as the attacker."""
    async with Browser("Phone/1") as browser:
        address = site.app_urls["flask_app"]
        for state in ("", "&state=", "&state=other"):
            await browser.open(f"{address}/login")
            answer = await browser.fetch(f"{address}/callback?code=x{state}")
            assert (answer.status_code, answer.text) == (400, "This sign-in was not started here.")


# -- connections that stay open ------------------------------------------------------------


@dataclass
class Connections:
    """A WebSocket and a stream of server-sent events, both open."""

    socket: ClientConnection
    lines: AsyncIterator[str]

    async def talk(self) -> None:
        """Uses both; raises if one is closed."""
        await self.socket.send("there?")
        assert await self.socket.recv() == "there?"
        assert await anext(self.lines) == "data: still signed in"
        assert await anext(self.lines) == ""

    async def closed(self) -> int:
        """Waits for the end of both; returns the WebSocket's close code."""
        async for _ in self.lines:
            pass
        with pytest.raises(ConnectionClosed):
            await self.socket.recv()
        assert self.socket.close_code is not None
        return self.socket.close_code


def open_socket(visitor: Visitor) -> connect:
    address = visitor.app_url.replace("http:", "ws:") + "/ws"
    return connect(address, additional_headers={"Cookie": visitor.cookies}, proxy=None)


@contextlib.asynccontextmanager
async def open_connections(visitor: Visitor) -> AsyncIterator[Connections]:
    async with (
        open_socket(visitor) as socket,
        visitor.http.stream("GET", f"{visitor.app_url}/events") as events,
    ):
        assert events.status_code == 200
        yield Connections(socket, events.aiter_lines())


async def test_open_connections_end_with_their_session_only(
    site: RunningApps,
) -> None:
    async with (
        two_visitors(site, "fastapi_app") as (phone, laptop),
        open_connections(phone) as dying,
        open_connections(laptop) as living,
    ):
        await dying.talk()
        await living.talk()

        await laptop.end(phone)

        async with asyncio.timeout(CLOSED_WITHIN):
            assert await dying.closed() == 4401
        async with asyncio.timeout(CLOSED_WITHIN):
            await living.talk()
        with pytest.raises(InvalidStatus, match="403"):
            await open_socket(phone)
        assert (await laptop.me()).status_code == 200


async def test_a_visitor_who_is_not_signed_in_gets_no_connection(site: RunningApps) -> None:
    async with Browser("Stranger/1") as browser:
        stranger = Visitor(site, site.app_urls["fastapi_app"], browser)
        assert (await browser.fetch(f"{stranger.app_url}/events")).status_code == 401
        with pytest.raises(InvalidStatus, match="403"):
            await open_socket(stranger)
