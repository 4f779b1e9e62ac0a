"""`/api/reload`: reads the tenants' settings again, as SIGHUP does, in this receiver alone."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.admin.responses import ReloadedResponse
from app.config.reload import ReloadOutcome, ReloadResult
from app.web import params
from app.web.audit_log import AuditLog
from app.web.json_api import json_response
from app.web.resource import resource


@dataclass(frozen=True, slots=True)
class ReloadRoutes:
    reload: Callable[[str], Awaitable[ReloadResult]]
    audit_log: AuditLog

    @property
    def routes(self) -> list[Route]:
        return [resource("/api/reload", POST=self.post)]

    async def post(self, request: Request) -> Response:
        """200 once the settings are in service; 422 if the main file has a fault."""
        params.query(request, [])
        result = await self.reload("api")
        who = params.operator(request).who
        await self.audit_log.record_act("reload", request, who=who, outcome=result.outcome.value)
        status = 422 if result.outcome is ReloadOutcome.REFUSED else 200
        return json_response(ReloadedResponse(**asdict(result)), status)
