"""Runs receiver, provider and app as child processes in a directory."""

import asyncio
import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from app.devtools.embedded_redis import path_with_wheel_first

from .orphan import end_orphan
from .ports import Ports, url
from .processes import Child, ChildFault, running

CLIENT_ID = "shop-web"
APP = "shop"
RECEIVER_FILE = "receiver.toml"

Report = Callable[[str, str, float], None]
"""Called with the name and URL of each ready child, and the seconds that it took."""

_PROVIDER_SETTINGS = """\
port = {provider}
api_token = {api_token}

[[clients]]
client_id = {client_id}
client_secret = {client_secret}
redirect_uri = "http://127.0.0.1:{shop}/callback"
backchannel_logout_uri = {logout_url}
post_logout_redirect_uri = "http://127.0.0.1:{shop}/"
"""

_RECEIVER_SETTINGS = """\
listen = "127.0.0.1:{receiver}"
admin_listen = "127.0.0.1:{admin}"
admin_token = {admin_token}
account_listen = "127.0.0.1:{account}"
account_apps = [{{app = {app}, token = {account_token}}}]
redis_url = "embedded"
embedded_port = {redis}
data_dir = {data_dir}
shutdown_grace = "2s"

[[issuers]]
issuer = "http://127.0.0.1:{provider}"
clients = [{{client_id = {client_id}, app = {app}}}]

[issuers.sessions]
kind = "auth0"
client_id = "session-api"
secret = {api_token}
"""

_ANNOUNCED_REDIS = re.compile(r"embedded Redis for apps:\s+(redis://\S+)")


@dataclass(frozen=True, slots=True)
class Services:
    """The running services and their addresses."""

    ports: Ports
    provider: Child
    receiver: Child
    shop: Child
    redis_url: str
    api_token: str
    """For the provider's session API."""
    admin_token: str
    """For the receiver's console and API."""

    @property
    def provider_url(self) -> str:
        return url(self.ports.provider)

    @property
    def receiver_file(self) -> Path:
        """The receiver's settings."""
        return self.receiver.log_path.parent / RECEIVER_FILE

    @property
    def shop_url(self) -> str:
        return url(self.ports.shop)

    async def broken(self) -> None:
        """Waits until a child ends unexpectedly; raises `ChildFault`."""
        children = (self.provider, self.receiver, self.shop)
        await asyncio.gather(*(child.ended() for child in children))


@contextlib.asynccontextmanager
async def running_services(
    directory: Path,
    ports: Ports,
    *,
    logout_url: str | None = None,
    report: Report = lambda *_: None,
) -> AsyncIterator[Services]:
    """Starts everything, waits until it is ready, and ends everything after the block.

    ``logout_url`` replaces the receiver's URL for the provider's logout tokens. Raises `ChildFault`
    if a child does not start.
    """
    client_secret, api_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    account_token, admin_token = secrets.token_urlsafe(32), secrets.token_urlsafe(12)
    data_dir = directory / "data"
    strings = {
        "api_token": api_token,
        "account_token": account_token,
        "admin_token": admin_token,
        "client_id": CLIENT_ID,
        "client_secret": client_secret,
        "app": APP,
        "logout_url": logout_url or f"{url(ports.receiver)}/backchannel-logout",
        "data_dir": str(data_dir),
    }
    # A JSON string is also a TOML string.
    values = asdict(ports) | {name: json.dumps(value) for name, value in strings.items()}
    provider_file, receiver_file = directory / "provider.toml", directory / RECEIVER_FILE
    provider_file.write_text(_PROVIDER_SETTINGS.format_map(values), "utf-8")
    receiver_file.write_text(_RECEIVER_SETTINGS.format_map(values), "utf-8")

    async with contextlib.AsyncExitStack() as stack, _http() as http:
        starter = _Starter(stack, http, directory, report)
        provider_url, shop_url = url(ports.provider), url(ports.shop)
        provider = await starter.start(
            "provider", provider_url, f"{provider_url}/jwks",
            "examples.demo_provider", str(provider_file),
        )  # fmt: skip
        stack.push_async_callback(end_orphan, data_dir)  # runs after the receiver's end
        receiver = await starter.start(
            "receiver", url(ports.receiver), f"{url(ports.admin)}/readyz",
            "app", "serve", "--config", str(receiver_file),
        )  # fmt: skip
        if (announced := _ANNOUNCED_REDIS.search(receiver.log)) is None:
            raise ChildFault("The receiver does not print the URL of its embedded Redis.")
        shop = await starter.start(
            "shop", shop_url, shop_url, "examples.relying_app",
            ISSUER=provider_url, CLIENT_ID=CLIENT_ID, CLIENT_SECRET=client_secret,
            APP=APP, REDIS_URL=announced[1], PORT=str(ports.shop),
            SESSION_SECRET=secrets.token_urlsafe(24),
            ACCOUNT_URL=url(ports.account), ACCOUNT_TOKEN=account_token,
        )  # fmt: skip
        yield Services(ports, provider, receiver, shop, announced[1], api_token, admin_token)


@dataclass(frozen=True, slots=True)
class _Starter:
    """Starts children that end with ``stack``."""

    stack: contextlib.AsyncExitStack
    http: httpx.AsyncClient
    directory: Path
    report: Report

    async def start(
        self, name: str, address: str, health_url: str, *arguments: str, **environ: str
    ) -> Child:
        """Runs ``python -m <arguments>`` and waits until ``health_url`` answers 200."""
        began = time.monotonic()
        child = await self.stack.enter_async_context(
            running(
                name,
                *arguments,
                log_path=self.directory / f"{name}.log",
                environ=_environment() | environ,
            )
        )
        await child.until(lambda: self._is_ready(health_url))
        self.report(name, address, time.monotonic() - began)
        return child

    async def _is_ready(self, health_url: str) -> bool:
        try:
            return (await self.http.get(health_url)).status_code == 200
        except httpx.TransportError:
            return False


def _http() -> httpx.AsyncClient:
    """A client with a short timeout: a ready service answers within a second."""
    return httpx.AsyncClient(trust_env=False, timeout=1)


def _environment() -> dict[str, str]:
    """Our environment without settings and proxies, and with the wheel's Valkey first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BCL_")}
    return kept | {
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
        "PATH": path_with_wheel_first(),
    }
