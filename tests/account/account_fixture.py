"""A receiver with the users' listener, a provider that sends logout tokens, and its session API."""

import base64
import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.admin.api_fixture import Tenant, settings
from tests.support.providers.provider import ABSENT, Provider
from tests.support.receiver import Receiver, wait_for
from tests.support.servers.redis_server import RedisServer

BOB = "auth0|bob"
SHOP_TOKEN = "the-token-of-the-shop-backend-000000"
NEWS_TOKEN = "the-token-of-the-news-backend-000000"
AUDIENCE, SCOPE = "https://account.example", "sessions"
ORIGIN = "https://www.example"

USER_PACE = 0.5
"""Seconds between two looks, for a test that looks as a user: these may ask twice a second."""

TOP = f"""
account_listen = "127.0.0.1:0"
account_audience = "{AUDIENCE}"
account_scope = "{SCOPE}"
account_origins = ["{ORIGIN}"]
account_apps = [{{app = "shop", token = "{SHOP_TOKEN}"}}, {{app = "news", token = "{NEWS_TOKEN}"}}]
"""


def said(members: Any) -> str:
    """The header ``Bcl-Session``."""
    return base64.urlsafe_b64encode(json.dumps(members).encode()).decode().rstrip("=")


class AccountClient:
    """Asks as the shop's backend does, for one of its sessions."""

    def __init__(self, receiver: Receiver, tenant: Tenant, keys: Provider, redis: Any) -> None:
        self.receiver, self.tenant, self.keys, self.redis = receiver, tenant, keys, redis
        self.redis_url = ""
        self.redis_server: RedisServer
        address = re.search(r"users' own sessions:\s+(http://\S+)/account", receiver.log)
        assert address
        self.url = address[1]
        self.user = ""
        """Whose sessions they are: another one for each test, for users are limited."""

    def session(self, sid: str, sub: str | None = None, **changes: Any) -> dict[str, Any]:
        members = {
            "iss": self.keys.issuer,
            "sub": sub or self.user,
            "sid": sid,
            "login_at": now() - 600,
        }
        return {k: v for k, v in (members | changes).items() if v is not ABSENT}

    def ask(
        self,
        method: str,
        path: str,
        session: dict[str, Any] | None,
        token: str | None = SHOP_TOKEN,
        **headers: str,
    ) -> httpx.Response:
        sent = {} if token is None else {"authorization": f"Bearer {token}"}
        sent |= {} if session is None else {"bcl-session": said(session)}
        return self.receiver.http.request(
            method, f"{self.url}/account/sessions{path}", headers=sent | headers
        )

    def ids(self, session: dict[str, Any]) -> list[str]:
        return [one["id"] for one in self.ask("GET", "", session).json()]

    def until_final(self, sid: str, session: dict[str, Any]) -> dict[str, Any]:
        def state() -> dict[str, Any]:
            progress: dict[str, Any] = self.ask("GET", f"/{sid}/state", session).json()
            return progress

        def told() -> bool:
            progress = state()
            return bool(progress["gone"] and progress["apps"]["told"] == 2)

        wait_for(told, "told", self.receiver, every=USER_PACE)
        return state()

    def access_token(self, own: str, **changes: Any) -> str:
        header = changes.pop("header", {"typ": "at+jwt"})
        claims = {
            "aud": AUDIENCE, "scope": f"openid {SCOPE}", "sub": self.user, "sid": own,
            "events": ABSENT, "exp": now() + 300,
        }  # fmt: skip
        return self.keys.token(header=header, **(claims | changes))


def now() -> int:
    return int(time.time())


@contextlib.contextmanager
def account_client(
    tmp_path: Path, top: str = "", redis_url: str | None = None
) -> Iterator[AccountClient]:
    """``redis_url`` is of a server that the test has started; else there is one of its own."""
    redis = RedisServer(tmp_path / "own-redis")
    if redis_url is None:
        redis_url = redis.start().url
    with Provider() as keys, Tenant(keys) as tenant:
        text = settings(redis_url, tenant, keys, TOP + top)
        receiver = Receiver(tmp_path / "receiver", text).start()
        tenant.receiver = receiver
        look = redis.client()
        try:
            account = AccountClient(receiver, tenant, keys, look)
            account.redis_url, account.redis_server = redis_url, redis
            yield account
        finally:
            look.close()
            receiver.stop()
            redis.stop()
