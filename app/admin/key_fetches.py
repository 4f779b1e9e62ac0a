"""`/api/keys/fetch`: fetches an issuer's keys now, in every receiver on this Redis.

For a key that has leaked or was replaced, where waiting for `jwks_refresh` or restarting each
receiver would cost logouts. Tokens that wait for the keys are settled as with any other fetch.
"""

from dataclasses import dataclass
from typing import Annotated
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.admin.responses import KeysFetchedResponse
from app.audit import FREE_NAME, RESERVED_NAME, is_reserved
from app.config.issuers import IssuerSettings
from app.history import History
from app.tokens.asked_fetches import ACT, AskedFetches
from app.web import params
from app.web.audit_log import AuditLog
from app.web.errors import ApiError, not_found
from app.web.json_api import json_response
from app.web.resource import resource

_Text = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]
_Name = Annotated[_Text, Field(json_schema_extra={"allOf": [{"pattern": FREE_NAME}]})]


class NewKeyFetch(BaseModel):
    """Whose keys to fetch, and for the audit who asks and why."""

    model_config = ConfigDict(extra="forbid", strict=True)

    issuer: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Any of its names. Required if the settings have several issuers."""
    reason: _Text | None = None
    by: _Name | None = None

    @field_validator("by")
    @classmethod
    def _check_name(cls, by: str | None) -> str | None:
        if by is not None and is_reserved(by):
            raise ValueError(RESERVED_NAME)
        return by


@dataclass(frozen=True, slots=True)
class KeyFetchRoutes:
    history: History
    fetches: AskedFetches
    audit_log: AuditLog

    @property
    def routes(self) -> list[Route]:
        return [resource("/api/keys/fetch", POST=self.fetch)]

    async def fetch(self, request: Request) -> Response:
        """200 once the fetch here has ended, with whatever result."""
        params.query(request, [])
        new = await params.body(request, NewKeyFetch)
        issuer = self._issuer(new.issuer)
        return json_response(await self.fetch_for(request, issuer, by=new.by, why=new.reason))

    async def fetch_for(
        self, request: Request, issuer: str, *, by: str | None = None, why: str | None = None
    ) -> KeysFetchedResponse:
        """Ask the other receivers, and fetch here. ``issuer`` is its configured name."""
        request_id = uuid4().hex
        who = by or params.operator(request).who
        asked = await self.audit_log.record_act(
            ACT, request, who=who, why=why, outcome="asked", iss=issuer, request_id=request_id
        )
        state = await self.fetches.fetch(issuer, request_id)
        return KeysFetchedResponse(
            issuer=issuer, fetched=state.last_error is None, error=state.last_error,
            keys=state.keys, skipped_keys=state.skipped, others_asked=asked,
        )  # fmt: skip

    def _issuer(self, name: str | None) -> str:
        issuers: dict[str, IssuerSettings] = dict(self.history.issuers)
        names = {issuer.issuer for issuer in issuers.values()}
        if name is None:
            if len(names) > 1:
                raise ApiError(422, "invalid_body", "issuer is required: there are several")
            return names.pop()
        if name not in issuers:
            raise not_found("no issuer of this name is configured")
        return issuers[name].issuer
