"""`/livez` and `/readyz`, and whether somebody looks at `/readyz` again and again."""

import itertools
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Body = dict[str, Any]
"""What `/readyz` says, as JSON values."""

# A load balancer asks every second to every half a minute. Who asks more often waits for a start.
SHORTEST_PERIOD, LONGEST_PERIOD = 0.5, 35.0

# So many times in a row are no accident.
TIMES = 3


class Probes(ABC):
    """The routes."""

    def __init__(self) -> None:
        self.stopping: Callable[[], bool] = lambda: False
        """Whether the service has been told to stop: it still serves, and takes its leave."""
        self.canary: Callable[[], Body] | None = None
        """How the canary goes, where there is one. It makes nobody ready, and nobody not."""
        self._asked: deque[float] = deque(maxlen=TIMES)

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
        if not self._asked or now - self._asked[-1] >= SHORTEST_PERIOD:
            self._asked.append(now)
        body = await self.now()
        return JSONResponse(body, status_code=200 if body["ready"] else 503)

    @abstractmethod
    async def now(self) -> Body:
        """What `/readyz` says, and the canary."""

    def watched(self) -> bool:
        """Whether somebody asks `/readyz` regularly, and so needs a while to see that it says no:
        a load balancer that nobody tells of a stop goes on sending until then."""
        times = [*self._asked, time.monotonic()]
        pauses = [after - before for before, after in itertools.pairwise(times)]
        return len(pauses) == TIMES and max(pauses) <= LONGEST_PERIOD
