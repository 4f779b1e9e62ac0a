"""``GET /metrics``. Answers from memory and never waits for Redis."""

import asyncio
from collections.abc import Callable, Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.telemetry.metrics.exposition import GaugeValue, exposed
from app.telemetry.metrics.registry import Registry


class Metrics:
    """Counters and histograms from ``registry``; ``gauges`` reads the gauges."""

    def __init__(self, registry: Registry, gauges: Callable[[], Iterable[GaugeValue]]) -> None:
        self._registry = registry
        self._gauges = gauges

    @property
    def route(self) -> Route:
        return Route("/metrics", self.answer, methods=["GET"])

    async def answer(self, request: Request) -> Response:
        gauges = list(self._gauges())
        accept = request.headers.get("accept", "")
        text, media_type = await asyncio.to_thread(exposed, self._registry, gauges, accept)
        return Response(text, headers={"Content-Type": media_type})
