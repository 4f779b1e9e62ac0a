"""``GET /metrics``. Answers from memory and never waits for Redis."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.telemetry.metrics.exposition import GaugeValue, exposed
from app.telemetry.metrics.registry import Registry


@dataclass(frozen=True, slots=True)
class Metrics:
    """Counters and histograms from ``registry``; ``gauges`` reads the gauges."""

    registry: Registry
    gauges: Callable[[], Iterable[GaugeValue]]

    @property
    def route(self) -> Route:
        return Route("/metrics", self.answer, methods=["GET"])

    async def answer(self, request: Request) -> Response:
        gauges = list(self.gauges())
        accept = request.headers.get("accept", "")
        text, media_type = await asyncio.to_thread(exposed, self.registry, gauges, accept)
        return Response(text, headers={"Content-Type": media_type})
