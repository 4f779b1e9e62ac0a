"""`/api/revocations`: ends sessions in the apps without a provider, and reads their history.

A revocation takes the same writer as a logout token and produces the same events, with the
``source`` ``admin``.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.admin.responses import FailedApp, NotWrittenResponse, RevocationResponse, WrittenApp
from app.admin_revocations import new_jti, revocations
from app.audit import FREE_NAME, RESERVED_NAME, is_reserved, outcome_of
from app.config.issuers import IssuerSettings
from app.errors import OUTAGE_SENTENCES, DependencyUnavailable
from app.history import History, RevocationQuery
from app.publish.writer import Writer
from app.revocation import Revocation
from app.web import params
from app.web.audit_log import AuditLog
from app.web.errors import ApiError, bad_request, not_found
from app.web.json_api import json_response
from app.web.resource import resource

# As for a logout token: the answer is sent within two seconds.
_WRITE_SECONDS = 1.8

_Text = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]
_Name = Annotated[_Text, Field(json_schema_extra={"allOf": [{"pattern": FREE_NAME}]})]
_Id = Annotated[str, Field(min_length=1, max_length=255)]


# The constraints of `NewRevocation` across its members, in JSON Schema.
_ONE_SUBJECT: dict[str, Any] = {
    "oneOf": [
        {
            "required": ["all", "app"],
            "properties": {
                "all": {"const": True},
                "app": {"type": "string"},
                "sid": {"type": "null"},
                "sub": {"type": "null"},
            },
        },
        {
            "properties": {"all": {"const": False}},
            "anyOf": [
                {"required": [name], "properties": {name: {"type": "string"}}}
                for name in ("sid", "sub")
            ],
        },
    ]
}


class NewRevocation(BaseModel):
    """Ends a session (``sid``), a user's sessions (``sub``), or ``all`` of the issuer in an app."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_ONE_SUBJECT)

    issuer: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Required if the settings have several."""
    sid: _Id | None = None
    sub: _Id | None = None
    """With ``sid``: its user, for the events. Alone: all sessions of the user."""
    all: bool = False
    app: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Only this app; default: every app of the issuer. Required with ``all``."""
    reason: _Text
    by: _Name | None = None

    @model_validator(mode="after")
    def _check_subject(self) -> Self:
        if self.by is not None and is_reserved(self.by):
            raise ValueError(RESERVED_NAME)
        if self.all == (self.sid is not None or self.sub is not None):
            raise ValueError("say whom to end: sid, sub, or all")
        if self.all and self.app is None:
            raise ValueError("all needs app: in which app everybody is to be signed out")
        return self


@dataclass(frozen=True, slots=True)
class RevocationRoutes:
    history: History
    writer: Writer
    audit_log: AuditLog

    @property
    def routes(self) -> list[Route]:
        return [resource("/api/revocations", GET=self.read, POST=self.write)]

    async def write(self, request: Request) -> Response:
        """Revoke what the body names, up to now. 201 once all of it is durable."""
        params.query(request, [])
        new = await params.body(request, NewRevocation)
        issuer = self._issuer(new.issuer, missing_status=422)
        apps = self.history.apps_of(issuer.issuer)
        if new.app is not None:
            if new.app not in apps:
                raise not_found("the issuer has no app of this name here")
            apps = [new.app]
        jti = new_jti()
        to_write = revocations(issuer, apps, jti=jti, now=time.time(), sid=new.sid, sub=new.sub)
        results = await asyncio.gather(*map(self._write_one, to_write))
        written = [isinstance(result, WrittenApp) for result in results]
        event, who = to_write[0].event, new.by or params.operator(request).who
        await self.audit_log.record_act(
            "revocation.write", request, outcome=outcome_of(written), who=who, why=new.reason,
            iss=event.iss, apps=apps, kind=event.kind.value, sid=event.sid, sub=event.sub, jti=jti,
        )  # fmt: skip
        response = RevocationResponse(
            act=jti, source=event.source, by=who, reason=new.reason,
            kind=event.kind, iss=event.iss, sid=event.sid, sub=event.sub,
            cutoff=event.cutoff, apps=results,
        )  # fmt: skip
        if all(written):
            return json_response(response, 201)
        error = ApiError(
            503, "not_written", "not written for every app; send it again", retry_after=5
        )
        failed = NotWrittenResponse(**dict(response), **dict(error.body))
        return json_response(failed, error.status, error.headers)

    async def _write_one(self, revocation: Revocation) -> WrittenApp | FailedApp:
        until = asyncio.get_running_loop().time() + _WRITE_SECONDS
        app, markers = revocation.event.app, list(revocation.marker_keys)
        try:
            result = await self.writer.write([revocation], until=until)
        except DependencyUnavailable as error:
            return FailedApp(
                app=app,
                markers=markers,
                error=error.outage.value,
                why=OUTAGE_SENTENCES[error.outage],
            )
        return WrittenApp(app=app, markers=markers, written=result)

    async def read(self, request: Request) -> Response:
        """The history of one session, user, or issuer: dead or alive, since when, by which token,
        and which apps have acted."""
        values = params.query(request, ["issuer", "sid", "sub", "login_at", "app"])
        issuer = self._issuer(values.get("issuer"), missing_status=400)
        iss = values.get("issuer", issuer.issuer)
        if "app" in values and values["app"] not in self.history.apps_of(iss):
            raise not_found("the issuer has no app of this name here")
        query = RevocationQuery(
            iss=iss, sid=values.get("sid"), sub=values.get("sub"),
            login_at=params.login_time(values, "login_at"),
        )  # fmt: skip
        await self.audit_log.record_view(
            "revocation.read", request, iss=iss, sid=query.sid, sub=query.sub
        )
        history = await self.history.session_history(
            query, [values["app"]] if "app" in values else None,
            hashed=await self.audit_log.keyed_hash(),
        )  # fmt: skip
        return json_response(history)

    def _issuer(self, name: str | None, *, missing_status: int) -> IssuerSettings:
        """The issuer of this name; the name is optional if there is only one."""
        issuers = self.history.issuers
        if name is not None:
            if (issuer := issuers.get(name)) is None:
                raise not_found("no issuer of this name is configured")
            return issuer
        if len({issuer.issuer for issuer in issuers.values()}) > 1:
            if missing_status == 422:
                raise ApiError(422, "invalid_body", "issuer is required: there are several")
            raise bad_request("issuer is required: there are several")
        return next(iter(issuers.values()))
