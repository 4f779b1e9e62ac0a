"""Good revocations, and a store for an app of a test's own."""

import time
import uuid
from typing import Any

import redis

from app.revocation import Once, Revocation, revoke
from app.store.errors import RedisFault
from app.store.store import Store
from app.store.topology import RedisTopology, connect
from backchannel_logout import AppKeys, Event, EventKind
from tests.support.servers.redis_server import RedisServer

ISS = "https://op.example"
NOW = 1_795_283_041
FAR = 10**9
"""A leeway with which a test's times need not be those of the clock."""


def revocation(app: str = "shop", **changes: object) -> Revocation:
    """A good revocation of one session, with changes."""
    arguments: dict[str, object] = {
        "app": app,
        "kind": EventKind.SESSION,
        "issuer_names": (ISS,),
        "sid": "s1",
        "sub": "alice",
        "since": NOW,
        "source": "backchannel-logout",
        "received_at": time.time(),
        "max_session_age": 3600,
        "leeway": FAR,
        "client_ids": ("shop-web",),
        "once": Once("j1", "s1", "alice", time.time() + 300),
    }
    return revoke(**(arguments | changes))  # type: ignore[arg-type]


def numbered(n: int, app: str = "shop", **changes: object) -> Revocation:
    """One of many: each has a session and a ``jti`` of its own."""
    once = Once(f"j{n}", f"s{n}", "alice", time.time() + 300)
    return revocation(app, **({"sid": f"s{n}", "once": once} | changes))


def new_app() -> str:
    """A name that no other test uses."""
    return f"app-{uuid.uuid4().hex[:8]}"


class AppStore:
    """A store for an app of the test's own, and a plain client to inspect it."""

    def __init__(self, server: RedisServer, url: str | None = None, **options: Any) -> None:
        self.app = new_app()
        self.keys = AppKeys(self.app)
        self.marker = self.keys.sid(ISS, "s1")
        self.link = RedisTopology(connect(url or server.url))
        settings = {
            "apps": {self.app: 3600}, "event_retention": 3600, "event_max_len": 1000
        } | options  # fmt: skip
        self.store = Store(self.link, **settings)
        self.look: redis.Redis = server.client()

    def revocation(self, **changes: object) -> Revocation:
        return revocation(self.app, **changes)

    def numbered(self, n: int, **changes: object) -> Revocation:
        return numbered(n, self.app, **changes)

    async def write(self, **changes: object) -> int:
        """Write one; returns the script's answer, or raises the fault."""
        (result,) = await self.store.write([self.revocation(**changes)])
        if isinstance(result, RedisFault):
            raise result
        return result

    async def write_meta(self) -> bool:
        """Write ``meta``; True when it was missing."""
        server = await self.link.primary(self.app)
        return await self.store.metas.write(server, self.store.apps)

    def events(self) -> list[Event]:
        entries: Any = self.look.xrange(self.keys.events)
        return [Event.from_fields(fields, entry_id) for entry_id, fields in entries]

    def sids(self) -> list[str | None]:
        """The sessions of the events, in their order."""
        return [event.sid for event in self.events()]

    async def aclose(self) -> None:
        await self.link.aclose()
        self.look.close()
