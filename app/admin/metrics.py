"""``GET /metrics``. Answers from memory and never waits for Redis."""

import asyncio
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.admin.gauges import Gauges
from app.telemetry.metrics.exposition import exposed
from app.telemetry.metrics.registry import Registry


@dataclass(frozen=True, slots=True)
class Metrics:
    """Counters and histograms from ``registry``. ``?app=shop`` returns only the series about this
    app, whether or not they are among those that are shown of a large fleet."""

    registry: Registry
    gauges: Gauges

    @property
    def route(self) -> Route:
        return Route("/metrics", self.answer, methods=["GET"])

    async def answer(self, request: Request) -> Response:
        apps = request.query_params.getlist("app") or None
        if apps is None:
            shown = await asyncio.to_thread(self.gauges.choose)
            gauges = list(self.gauges.read(shown))
        elif self.registry.selection.apps.issuperset(apps):
            gauges = list(self.gauges.read_apps(dict.fromkeys(apps)))
        else:
            raise HTTPException(404)  # a misspelled name must not look like an app without faults
        accept = request.headers.get("accept", "")
        text, media_type = await asyncio.to_thread(exposed, self.registry, gauges, accept, apps)
        return Response(text, headers={"Content-Type": media_type})
