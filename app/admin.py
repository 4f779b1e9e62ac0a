"""The operators' listener: is the process alive, is it ready, and what is wrong.

Never for providers or users: what it says helps an attacker.
"""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.publish.publisher import Publisher
from app.tokens.provider_keys import ProviderKeys


class Health:
    """`/livez` and `/readyz`. ``keys`` holds each issuer's key cache by its name."""

    def __init__(self, keys: Mapping[str, ProviderKeys], publisher: Publisher) -> None:
        self._keys = keys
        self._publisher = publisher
        self.stopping: Callable[[], bool] = lambda: False
        """Whether the service has been told to stop: it still serves, and takes its leave."""

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/livez", self.live, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
        ]

    async def live(self, _: Request) -> Response:
        """The event loop turns. Nothing else: a restart mends no Redis and no provider."""
        return PlainTextResponse("ok\n")

    async def ready(self, _: Request) -> Response:
        """200 when a logout can be answered with 200 here.

        Every issuer's keys have been asked for, with whatever result (one dead issuer must
        not take the others out of service), and Redis or the journal takes writes. 503 from the
        moment of a stop on, so that nobody new is sent here.
        """
        issuers = {}
        for name, keys in self._keys.items():
            state = keys.state()
            issuers[name] = {
                "attempted": state.attempted,
                "keys": state.keys,
                "skipped_keys": state.skipped,
                "age_seconds": None if state.age is None else round(state.age, 1),
                "error": state.last_error,
            }
        asked = all(issuer["attempted"] for issuer in issuers.values())
        asked = asked and self._publisher.watch.looked
        redis, journal = self._publisher.watch.last_error, self._publisher.journal
        durable = self._publisher.takes_writes
        stopping = self.stopping()
        body: dict[str, Any] = {
            "ready": asked and durable and not stopping,
            "stopping": stopping,
            "redis": {
                "writable": redis is None,
                "error": redis,
                "durability_error": self._publisher.watch.level_error,
            },
            "issuers": issuers,
        }
        if journal is not None:
            body["journal"] = {
                "writable": journal.fault is None,
                "error": journal.fault,
                "waiting": journal.depth.waiting,
                "set_aside": journal.depth.set_aside,
            }
        return JSONResponse(body, status_code=200 if body["ready"] else 503)
