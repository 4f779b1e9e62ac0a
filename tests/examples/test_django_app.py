"""The Django example as processes, with their provider, the receiver and a real Redis."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio

from examples.demo.browser import Browser
from examples.demo.ports import url
from examples.demo.processes import Child, running
from tests.support.receiver import Receiver, clean_environment, config
from tests.support.servers.redis_server import RedisServer, free_port

# One provider and one receiver for all, because each process takes seconds to start.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

USER = "demo|alice"
SECRET = "only of this module"

# The session store of each app, and its server.
SHOPS = {
    "cache-asgi": ("cache", False),
    "cached-db-wsgi": ("cached_db", True),
}

CLIENT = f"""\
[[clients]]
client_id = "{{name}}"
client_secret = "{SECRET}"
redirect_uri = "{{address}}/callback"
backchannel_logout_uri = "{{receiver}}/backchannel-logout"
"""


@dataclass(frozen=True)
class RunningApp:
    """An app and its provider."""

    shop: str
    provider: str

    async def sign_in(self, browser: Browser) -> str:
        """Signs in at the app with the provider's page; returns the ``sid``."""
        await browser.open(self.shop)
        await browser.follow("Sign in")
        await browser.press("user", USER)
        answer = await self.me(browser)
        assert answer.status_code == 200, answer.text
        sid: str = answer.json()["sid"]
        return sid

    async def me(self, browser: Browser) -> httpx.Response:
        """On a busy machine a check may time out, and 503 means "try again"."""
        async with asyncio.timeout(60):
            while (answer := await browser.fetch(f"{self.shop}/me")).status_code == 503:
                await asyncio.sleep(0.05)
        return answer

    async def me_after_the_end(self, browser: Browser) -> httpx.Response:
        """A Redis that is slow, and a near cache, learn of a logout after its answer."""
        async with asyncio.timeout(60):
            while (answer := await self.me(browser)).status_code == 200:
                await asyncio.sleep(0.05)
        return answer

    async def end(self, sid: str, by: Browser) -> None:
        """Ends a session on the provider's page, which answers after the delivery."""
        await by.open(f"{self.provider}/sessions")
        await by.submit_with("session_id", sid)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_apps(
    tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer
) -> AsyncIterator[dict[str, RunningApp]]:
    directory = tmp_path_factory.mktemp("django_app")
    provider_port, receiver_port = free_port(), free_port()
    ports = {name: free_port() for name in SHOPS}
    environ = clean_environment() | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    provider_file = directory / "provider.toml"
    clients = [
        CLIENT.format(name=name, address=url(port), receiver=url(receiver_port))
        for name, port in ports.items()
    ]
    provider_file.write_text(f'port = {provider_port}\napi_token = "{SECRET}"\n' + "".join(clients))
    receiver_settings = config(
        shared_redis.url,
        f'issuer = "{url(provider_port)}"',
        clients=str([f'{{client_id = "{name}"}}' for name in SHOPS]).replace("'", ""),
    )

    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=5))

        async def start(name: str, *arguments: str, **settings: str) -> Child:
            child = running(
                name, *arguments, log_path=directory / f"{name}.log", environ=environ | settings
            )
            return await stack.enter_async_context(child)

        async def until_well(child: Child, address: str) -> None:
            async def is_well() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return (await http.get(address)).status_code == 200
                return False

            await child.until(is_well)

        provider = await start("provider", "examples.demo_provider", str(provider_file))
        await until_well(provider, f"{url(provider_port)}/jwks")
        shops = {}
        for name, (engine, under_wsgi) in SHOPS.items():
            port = str(ports[name])
            shops[name] = await start(
                name,
                "examples.django_app", *(["runserver", port, "--noreload"] if under_wsgi else []),
                ISSUER=url(provider_port), CLIENT_ID=name, CLIENT_SECRET=SECRET, SECRET_KEY=SECRET,
                REDIS_URL=shared_redis.url, APP=name, PORT=port,
                DATABASE=str(directory / f"{name}.sqlite3"),
                SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}",
            )  # fmt: skip
        receiver = Receiver(
            directory / "receiver",
            receiver_settings,
            env={"BCL_LISTEN": f"127.0.0.1:{receiver_port}"},
        )
        stack.callback(receiver.stop)
        receiver.start()
        for name, child in shops.items():
            await until_well(child, url(ports[name]))
        yield {name: RunningApp(url(port), url(provider_port)) for name, port in ports.items()}


@pytest.fixture(params=SHOPS)
def site(request: pytest.FixtureRequest, running_apps: dict[str, RunningApp]) -> RunningApp:
    return running_apps[request.param]


async def test_an_ended_session_is_dead_and_the_other_is_alive(site: RunningApp) -> None:
    async with Browser("phone") as phone, Browser("laptop") as laptop:
        sid = await site.sign_in(phone)
        await site.sign_in(laptop)
        await site.end(sid, by=laptop)

        answer = await site.me_after_the_end(phone)
        assert answer.status_code == 401
        assert answer.json() == {"error": "session_ended"}
        assert answer.headers["cache-control"] == "no-store"
        assert (await site.me(phone)).json() == {"error": "not_signed_in"}
        assert (await site.me(laptop)).status_code == 200

        assert await site.sign_in(phone) != sid
        assert (await site.me(laptop)).status_code == 200


async def test_an_unsolicited_callback_is_refused(site: RunningApp) -> None:
    async with Browser("phone") as phone:
        for query in ("", "?code=x&state=y", "?error=access_denied&state=y"):
            assert (await phone.fetch(f"{site.shop}/callback{query}")).status_code == 400
        assert (await site.me(phone)).json() == {"error": "not_signed_in"}
