"""The guards of both kinds behind one interface, and the sessions that their tests check."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import redis

from backchannel_logout import (
    AppKeys,
    AsyncSessionGuard,
    Session,
    SessionGuard,
)
from tests.support.patience import PATIENCE
from tests.support.servers.redis_server import RedisServer

OP = "https://op.example/"
LOGIN = int(time.time()) - 600
AGE = 30 * 86400
ALICE = Session(OP, LOGIN, sid="sid-1", sub="alice")
NEIGHBOUR = Session(OP, LOGIN, sid="sid-2", sub="bob")
# Short, because tests wait for it; a local Redis answers a thousand times faster.
TIMEOUT = 0.25


class BlockingGuard:
    """One sync interface to both kinds of guards."""

    def __init__(self, kind: str, url: str, app: str, **options: Any) -> None:
        self.guard: Any
        options = {"timeout": PATIENCE} | options
        if kind == "async":
            self._runner = asyncio.Runner()
            self.guard = AsyncSessionGuard(url, app=app, **options)
        else:
            self._runner = None
            self.guard = SessionGuard(url, app=app, **options)

    def is_revoked(self, session: Session | Mapping[str, Any]) -> bool:
        answer = self.guard.is_revoked(session)
        return self._runner.run(answer) if self._runner else answer

    def report_is_due(self) -> None:
        """As if a minute had passed."""
        self.guard._checker._next_report = float("-inf")

    def close(self) -> None:
        if self._runner:
            self._runner.run(self.guard.aclose())
            self._runner.close()
        else:
            self.guard.close()


NewGuard = Callable[..., BlockingGuard]


def serve_app(server: RedisServer, app: str, age: int = AGE) -> redis.Redis:
    """A client of a Redis in which a receiver serves the app."""
    client = server.client()
    client.hset(AppKeys(app).meta, mapping={"v": "1", "max_session_age": str(age)})
    return client
