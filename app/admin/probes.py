"""`/livez` and `/readyz`, and whether a load balancer polls `/readyz`."""

import itertools
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Body = dict[str, Any]
"""The answer of `/readyz`, as JSON values."""

# Load balancers poll every second to every half a minute. Faster polls wait for a start.
SHORTEST_PERIOD, LONGEST_PERIOD = 0.5, 35.0

# So many regular requests are a poll and no coincidence.
TIMES = 3


class Probes:
    """The routes; ``body`` returns the answer of `/readyz`, with its member ``ready``."""

    def __init__(self, body: Callable[[], Body]) -> None:
        self._body = body
        self._requested_at: deque[float] = deque(maxlen=TIMES)

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/livez", self.live, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
        ]

    async def live(self, _: Request) -> Response:
        """The event loop runs. Nothing else is checked: a restart repairs no Redis and no
        provider."""
        return PlainTextResponse("ok\n")

    async def ready(self, _: Request) -> Response:
        now = time.monotonic()
        if not self._requested_at or now - self._requested_at[-1] >= SHORTEST_PERIOD:
            self._requested_at.append(now)
        body = self._body()
        return JSONResponse(body, status_code=200 if body["ready"] else 503)

    def watched(self) -> bool:
        """Whether `/readyz` is polled. A load balancer that learns of a stop only in this way goes
        on sending requests until its next polls."""
        times = [*self._requested_at, time.monotonic()]
        pauses = [after - before for before, after in itertools.pairwise(times)]
        return len(pauses) == TIMES and max(pauses) <= LONGEST_PERIOD
