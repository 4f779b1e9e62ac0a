"""The Express example: its own client of the contract, with provider, receiver, real Redis."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from backchannel_logout import AppKeys, AppStatus, Reader, prove
from examples.demo.browser import Browser
from examples.demo.ports import Ports, url
from tests.support.receiver import Receiver, config
from tests.support.servers.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
HERE = ROOT / "examples" / "express"
OLDEST_NODE = 20
USER = "demo|alice"
SECRET = "only of this test"


def node_missing() -> str | None:
    """Why no JavaScript runs here, or None."""
    node = shutil.which("node")
    version = node and subprocess.check_output([node, "--version"], text=True)
    if not version or int(re.findall(r"\d+", version)[0]) < OLDEST_NODE:
        return f"Node >= {OLDEST_NODE} is missing"
    return None


def packages_missing() -> str | None:
    """Why the app cannot run here, or None."""
    modules = HERE / "node_modules"
    if reason := node_missing():
        return reason
    if not (modules / "express").is_dir():
        if (modules / ".out-of-reach").exists():
            return "registry out of reach: npm"
        return "npm packages are not installed; make test-all installs them"
    return None


def test_the_vectors_pass_in_node() -> None:
    """Needs no package."""
    if reason := node_missing():
        pytest.skip(reason)
    ran = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "vectors.test.mjs"],  # noqa: S607  from the PATH
        cwd=HERE, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    passed = re.search(r"^# pass (\d+)$", ran.stdout, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) > 100


# -- the app -------------------------------------------------------------------------------


@contextlib.contextmanager
def process(log_path: Path, *command: str, **environ: str) -> Iterator[Callable[[str], None]]:
    """Run a command until the end of the block; call the result to wait until a URL answers."""
    kept = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    with log_path.open("ab") as log:
        child = subprocess.Popen(command, cwd=ROOT, env=kept | environ, stdout=log, stderr=log)

    def serves(health_url: str) -> None:
        deadline = time.monotonic() + 60
        with httpx.Client(trust_env=False) as http:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if http.get(health_url).status_code == 200:
                        return
                if child.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"{command} does not serve:\n{log_path.read_text()}")
                time.sleep(0.02)

    try:
        yield serves
    finally:
        child.terminate()
        child.wait(20)


@dataclass(frozen=True)
class ExpressApp:
    """An app, its name, its provider, and its two Redis servers."""

    shop: str
    app: str
    provider: str
    markers: RedisServer
    sessions: RedisServer

    def guard_has_asked(self) -> int:
        """The number of a guard's queries."""
        with self.markers.client() as redis:
            stats: Any = redis.info("commandstats")
        calls: int = stats.get("cmdstat_mget", {"calls": 0})["calls"]
        return calls

    def stored_sessions(self) -> int:
        """The number of sessions in express-session's store."""
        with self.sessions.client() as redis:
            found: Any = redis.keys("sessions:*")
        return len(found)


def as_guard(server: RedisServer) -> str:
    """The URL with the contract's user for the shop's guard."""
    contract = ROOT.joinpath("docs/contract.md").read_text("utf-8")
    rule = re.search(r"^user shop-guard (on >(\S+) .*)$", contract, re.MULTILINE)
    assert rule is not None
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "shop-guard", *rule[1].split())
    return server.url.replace("//", f"//shop-guard:{rule[2]}@")


@pytest.fixture(scope="module")
def express_apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ExpressApp]]:
    """The app with and without `resave`, as two clients of one provider."""
    if reason := packages_missing():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("express")
    ports = Ports.choose(friendly=False)
    provider = url(ports.provider)
    shops = {"shop": ports.shop, "resave": ports.admin}
    with contextlib.ExitStack() as stack:
        markers, sessions = (RedisServer(directory / name) for name in ("markers", "sessions"))
        for server in (markers, sessions):
            stack.callback(server.start().stop)
        settings = directory / "provider.toml"
        settings.write_text(
            f'port = {ports.provider}\napi_token = "unused"\n'
            + "".join(
                f'[[clients]]\nclient_id = "{app}-web"\nclient_secret = "{SECRET}"\n'
                f'redirect_uri = "{url(port)}/callback"\n'
                f'backchannel_logout_uri = "{url(ports.receiver)}/backchannel-logout"\n'
                for app, port in shops.items()
            )
        )
        serves = stack.enter_context(
            process(
                directory / "provider.log",
                sys.executable, "-m", "examples.demo_provider", str(settings),
            )
        )  # fmt: skip
        clients = ", ".join(f'{{client_id = "{app}-web", app = "{app}"}}' for app in shops)
        toml = config(markers.url, f'issuer = "{provider}"', clients=f"[{clients}]")
        # The provider must know the port beforehand. The first "listen" is the one for providers.
        toml = toml.replace("127.0.0.1:0", f"127.0.0.1:{ports.receiver}", 1)
        receiver = Receiver(directory, toml)
        stack.callback(receiver.stop)
        receiver.start(ready=False)
        serves(f"{provider}/jwks")
        started = [
            (
                stack.enter_context(
                    process(
                        directory / f"{app}.log", "node", str(HERE / "app.mjs"),
                        ISSUER=provider, CLIENT_ID=f"{app}-web", CLIENT_SECRET=SECRET, APP=app,
                        REDIS_URL=as_guard(markers) if app == "shop" else markers.url,
                        SESSION_REDIS_URL=sessions.url, SESSION_SECRET=SECRET,
                        PORT=str(port), RESAVE="1" if app == "resave" else "",
                    )
                ),
                url(port),
            )
            for app, port in shops.items()
        ]  # fmt: skip
        for serves, address in started:
            serves(address)
        yield {
            app: ExpressApp(url(port), app, provider, markers, sessions)
            for app, port in shops.items()
        }


@pytest.fixture(params=["shop", "resave"])
def site(request: pytest.FixtureRequest, express_apps: dict[str, ExpressApp]) -> ExpressApp:
    return express_apps[request.param]


class Visitor:
    """A browser and its user's actions."""

    def __init__(self, site: ExpressApp, browser: Browser) -> None:
        self.browser = browser
        self._stage = site

    async def sign_in(self) -> dict[str, Any]:
        """Signs in; returns the login that the app remembers."""
        await self.browser.open(self._stage.shop)
        await self.browser.follow("Sign in")
        await self.browser.press("user", USER)
        answer = await self.me()
        assert answer.status_code == 200, answer.text
        remembered: dict[str, Any] = answer.json()
        return remembered

    async def end(self, sid: str) -> None:
        """Ends a session at the provider, which sends the logout token before it answers. A Redis
        that is slow has the marker later."""
        await self.browser.open(f"{self._stage.provider}/sessions")
        await self.browser.submit_with("session_id", sid)
        marker = AppKeys(self._stage.app).sid(self._stage.provider, sid)
        with self._stage.markers.client() as redis:
            async with asyncio.timeout(60):
                while not redis.exists(marker):
                    await asyncio.sleep(0.01)

    async def me_once(self) -> httpx.Response:
        return await self.browser.fetch(f"{self._stage.shop}/me")

    async def me(self) -> httpx.Response:
        """On a busy machine a check may time out, and 503 means "try again"."""
        async with asyncio.timeout(60):
            while (answer := await self.me_once()).status_code == 503:
                await asyncio.sleep(0.05)
        return answer

    @property
    def cookie(self) -> str:
        """The app's cookie, as an attacker could copy it."""
        return f"shop={self.browser._http.cookies['shop']}"


@pytest.fixture
async def laptop(site: ExpressApp) -> AsyncIterator[Visitor]:
    async with Browser("laptop") as browser:
        yield Visitor(site, browser)


@pytest.fixture
async def phone(site: ExpressApp) -> AsyncIterator[Visitor]:
    async with Browser("phone") as browser:
        yield Visitor(site, browser)


@pytest.mark.interop
async def test_one_browser_is_signed_out_at_the_provider_and_the_other_stays(
    laptop: Visitor, phone: Visitor
) -> None:
    ended, lives = await laptop.sign_in(), await phone.sign_in()
    assert ended["sub"] == USER
    assert ended["sid"] != lives["sid"]

    await phone.end(ended["sid"])

    answer = await laptop.me()
    assert answer.status_code == 401
    assert answer.json() == {"error": "session_ended"}
    assert answer.headers["cache-control"] == "no-store"
    assert (await laptop.me()).json() == {"error": "not_signed_in"}
    assert (await phone.me()).json() == lives


@pytest.mark.interop
@pytest.mark.parametrize("item", ["", "milk"], ids=["unchanged", "changed"])
async def test_a_session_that_is_written_back_after_the_logout_stays_dead(
    item: str, site: ExpressApp, laptop: Visitor
) -> None:
    """A request that began before the logout ends after it, and stores its old data."""
    ended = await laptop.sign_in()
    cookie = laptop.cookie
    may_finish = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield item[:1].encode()
        await may_finish.wait()
        yield item[1:].encode()

    async with httpx.AsyncClient(
        base_url=site.shop, headers={"Cookie": cookie}, trust_env=False
    ) as copy:
        asked, stored = site.guard_has_asked(), site.stored_sessions()
        headers = {"Content-Type": "text/plain"}
        slow = asyncio.create_task(copy.post("/cart", content=body(), headers=headers))
        async with asyncio.timeout(60):
            while site.guard_has_asked() == asked:
                await asyncio.sleep(0.01)

        await laptop.end(ended["sid"])
        assert (await laptop.me()).status_code == 401
        assert site.stored_sessions() == stored - 1

        may_finish.set()
        assert (await slow).status_code == 200
        is_back = site.app == "resave" or bool(item)
        assert site.stored_sessions() == stored - (not is_back)
        answer = await copy.get("/me")
        assert answer.status_code == 401
        assert answer.json() == {"error": "session_ended" if is_back else "not_signed_in"}
        assert site.stored_sessions() == stored - 1


@pytest.mark.interop
async def test_the_app_reports_that_it_asks_also_while_it_is_idle(
    site: ExpressApp, laptop: Visitor
) -> None:
    """Also with the Redis user of the contract."""
    ended = await laptop.sign_in()
    await laptop.end(ended["sid"])
    assert (await laptop.me()).status_code == 401

    keys = AppKeys(site.app)
    with site.markers.client() as redis:
        async with asyncio.timeout(60):
            while not (text := redis.hget(keys.readers, "asks")):
                await asyncio.sleep(0.01)
        newest: Any = redis.xrevrange(keys.events, count=1)
        assert 0 < redis.ttl(keys.readers) <= 30 * 86400  # type: ignore[operator]
        assert redis.hlen(keys.readers) == 1
    report = Reader.from_json("asks", str(text))
    assert report is not None
    assert report.sid == {site.provider: True}
    for later in (0, 3600, 86400):  # seconds without a request
        proof = prove(newest[0][0], [report], [], now=report.at + later)
        assert proof.status is AppStatus.ASKS


ONLY_SHOP = pytest.mark.parametrize("site", ["shop"], indirect=True)
"""For tests that do not depend on `resave`."""


@pytest.mark.interop
@ONLY_SHOP
@pytest.mark.parametrize("silent", ["markers", "sessions"])
async def test_while_redis_is_silent_it_is_503_and_the_session_stays(
    silent: str, site: ExpressApp, laptop: Visitor
) -> None:
    lives = await laptop.sign_in()
    server: RedisServer = getattr(site, silent)
    server.freeze()
    try:
        answer = await laptop.me_once()
    finally:
        server.thaw()
    assert answer.status_code == 503
    assert answer.headers["cache-control"] == "no-store"
    assert (await laptop.me()).json() == lives


@pytest.mark.interop
@ONLY_SHOP
async def test_an_unidentified_session_ends(site: ExpressApp, laptop: Visitor) -> None:
    """A session from before the guard was installed has no login."""
    await laptop.sign_in()
    with site.sessions.client() as redis:
        found: Any = redis.keys("sessions:*")
        for key in found:
            stored: Any = redis.get(key)
            members = json.loads(stored)
            members.pop("backchannel_logout", None)
            redis.set(key, json.dumps(members))
    answer = await laptop.me()
    assert answer.status_code == 401
    assert answer.json() == {"error": "session_ended"}


@pytest.mark.interop
@ONLY_SHOP
async def test_a_session_of_an_earlier_release_is_alive_until_it_ends(
    site: ExpressApp, laptop: Visitor, phone: Visitor
) -> None:
    """Its login is at the top level."""
    lives = await laptop.sign_in()
    with site.sessions.client() as redis:
        found: Any = redis.keys("sessions:*")
        for key in found:
            stored: Any = redis.get(key)
            members = json.loads(stored)
            members |= members.pop("backchannel_logout", {})
            redis.set(key, json.dumps(members))
    assert (await laptop.me()).json() == lives
    await phone.sign_in()
    await phone.end(lives["sid"])
    assert (await laptop.me()).json() == {"error": "session_ended"}


@pytest.mark.interop
@ONLY_SHOP
async def test_a_failed_sign_in_signs_no_user_in(site: ExpressApp, laptop: Visitor) -> None:
    for query in ("error=access_denied&state=x", "code=x&state=x", ""):
        answer = await laptop.browser.fetch(f"{site.shop}/callback?{query}")
        assert answer.status_code == 400
    assert (await laptop.me()).json() == {"error": "not_signed_in"}
