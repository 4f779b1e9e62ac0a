"""A receiver with its admin API, a provider that sends logout tokens, and its session API."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from app.sessions.termination.redis_records import OPEN, OPEN_USERS
from app.store.operator_streams import REFUSED
from tests.support.providers import auth0_api
from tests.support.providers.auth0_api import Auth0Api
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, wait_for
from tests.support.servers.redis_server import RedisServer

TOKEN = "the-admin-token-of-this-test"
ALICE = "auth0|alice"


class Tenant(Auth0Api):
    """A tenant that sends its logout tokens to the receiver, while `sends` is true."""

    def __init__(self, keys: Provider) -> None:
        super().__init__()
        self.keys = keys
        self.sends = True
        self.receiver: Receiver | None = None

    def get_well(self) -> None:
        """Reset to the initial state, without sessions."""
        self.faults.clear()
        self.faults_for.clear()
        self.sessions.clear()
        self.scopes = set(auth0_api.ALL_SCOPES)
        self.lag, self.sends = 0.0, True

    def carry_out(self, now: float) -> None:
        with self.carrying_out:
            before = dict(self.sessions)
            super().carry_out(now)
            for gone in before.keys() - self.sessions.keys():
                if self.sends and self.receiver is not None:
                    user = before[gone]["user_id"]
                    for client in before[gone]["clients"]:
                        token = self.keys.token(sid=gone, sub=user, aud=client["client_id"])
                        assert self.receiver.post(token).status_code == 200


class AdminClient:
    """A client of the admin API of a running receiver; it sends the token unless told otherwise."""

    def __init__(self, receiver: Receiver, tenant: Tenant, keys: Provider, redis: Any) -> None:
        self.receiver, self.tenant, self.keys, self.redis = receiver, tenant, keys, redis
        self.issuer = keys.issuer

    @property
    def base(self) -> str:
        return self.receiver.admin_url + "/api"

    def ask(
        self, method: str, path: str, *, token: str | None = TOKEN, **options: Any
    ) -> httpx.Response:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        headers |= options.pop("headers", {})
        return self.receiver.http.request(method, self.base + path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("GET", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("DELETE", path, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.ask("POST", path, json=body, **options)

    def state(self, session: str) -> dict[str, Any]:
        progress: dict[str, Any] = self.get(f"/sessions/{session}/state").json()
        return progress

    def state_with(self, session: str, member: str) -> dict[str, Any]:
        """The termination's state once it has this member. Under load the API may answer 503 in
        between."""
        found: list[dict[str, Any]] = []

        def has_it() -> bool:
            found.append(self.state(session))
            return bool(found[-1].get(member))

        wait_for(has_it, f"the termination has {member}", self.receiver)
        return found[-1]

    def over(self, session: str) -> dict[str, Any]:
        """The termination once it is over."""
        return self.state_with(session, "over")

    def settle(self) -> None:
        """Reset the tenant, and wait until no termination is followed: its questions would take
        the next test's faults, and count among its requests."""
        self.tenant.get_well()
        wait_for(lambda: not self.redis.sunion(OPEN, OPEN_USERS), "none is followed", self.receiver)

    def wait_for_refusal(self, answer: httpx.Response) -> dict[str, str]:
        """The entry of the token that got this answer, which is written later."""
        found: list[dict[str, str]] = []

        def is_written() -> bool:
            entries = [fields for _, fields in self.redis.xrange(REFUSED)]
            found[:] = [it for it in entries if it["request_id"] == answer.headers["x-request-id"]]
            return bool(found)

        wait_for(is_written, "the refusal is written", self.receiver)
        return found[0]

    def audit(self) -> list[dict[str, str]]:
        return [fields for _, fields in self.redis.xrange("bcl:v1:audit")]


def users(user: str) -> str:
    return f"/users/{quote(user, safe='')}/sessions"


def settings(redis_url: str, tenant: Tenant, keys: Provider, top: str = "") -> str:
    return f'''
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
redis_url = "{redis_url}"
admin_token = "{TOKEN}"
confirm_within = "1s"
{top}
[[issuers]]
issuer = "{keys.issuer}"
clients = [{{client_id = "shop-web", app = "shop"}}, {{client_id = "news-web", app = "news"}}]
[issuers.sessions]
kind = "auth0"
api_url = "{tenant.origin}"
client_id = "{auth0_api.CLIENT_ID}"
secret = "{auth0_api.CLIENT_SECRET}"
'''


@contextlib.contextmanager
def admin_client(
    tmp_path: Path, top: str = "", redis_url: str | None = None
) -> Iterator[AdminClient]:
    """A receiver with its API. ``redis_url``: a server of the test; default: its own."""
    redis = RedisServer(tmp_path / "own-redis")
    if redis_url is None:
        redis_url = redis.start().url
    with Provider() as keys, Tenant(keys) as tenant:
        receiver = Receiver(tmp_path / "receiver", settings(redis_url, tenant, keys, top)).start()
        tenant.receiver = receiver
        look = redis.client()
        try:
            yield AdminClient(receiver, tenant, keys, look)
        finally:
            look.close()
            receiver.stop()
            redis.stop()


class Listener:
    """A client of `/api/feed`."""

    def __init__(self, admin: AdminClient, path: str = "/feed", last: str | None = None) -> None:
        headers = {"authorization": f"Bearer {TOKEN}"}
        if last is not None:
            headers["last-event-id"] = last
        self._client = httpx.Client(timeout=20, trust_env=False)
        self._stream = self._client.stream("GET", admin.base + path, headers=headers)
        self.response = self._stream.__enter__()
        self._lines = self.response.iter_lines()
        self.last: str | None = None

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.__exit__(None, None, None)
        self._client.close()

    def next(self) -> tuple[str, dict[str, Any]]:
        """The name and data of the next event; its id is in `last`."""
        fields: dict[str, str] = {}
        deadline = time.monotonic() + 60
        for line in self._lines:
            assert time.monotonic() < deadline
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                self.last = fields.get("id", self.last)
                return fields["event"], json.loads(fields["data"])
        raise AssertionError("the feed has ended")

    def ends(self) -> bool:
        """Read to the end."""
        return not [line for line in self._lines if line.startswith("event:")]
