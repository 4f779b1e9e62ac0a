"""``GET /metrics``, of one process or of all workers.

Never waits for Redis, and for a worker no longer than a second: what a scrape shows of those that
hang is what is known without them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.telemetry import metrics
from app.telemetry.exposition import Gauge, exposed, merged
from app.telemetry.shared_counters import Cells


class Metrics:
    """``cells`` are every process's counters, ``look`` gives the gauges of those that answer."""

    def __init__(
        self, cells: Sequence[Cells], look: Callable[[], Awaitable[Sequence[Sequence[Gauge]]]]
    ) -> None:
        self._cells = cells
        self._look = look

    @property
    def route(self) -> Route:
        return Route("/metrics", self.answer, methods=["GET"])

    async def answer(self, request: Request) -> Response:
        gauges = merged(await self._look())
        accept = request.headers.get("accept", "")
        text, media_type = await asyncio.to_thread(exposed, self._cells, gauges, accept)
        return Response(text, headers={"Content-Type": media_type})


def of_service(*, ready: bool, configured: int, answering: int) -> list[Gauge]:
    """The gauges that only the whole service has."""
    return [
        (metrics.READY.name, [], float(ready)),
        (metrics.WORKERS.name, ["configured"], float(configured)),
        (metrics.WORKERS.name, ["answering"], float(answering)),
    ]
