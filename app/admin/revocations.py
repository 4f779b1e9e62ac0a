"""`/api/revocations`: end sessions in the apps, without a provider; and what Redis tells of one.

Written by the same writer as every logout token, with the same events, ``source`` ``admin``.
"""

import asyncio
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.admin_revocations import new_jti, revocations
from app.audit import FREE_NAME, RESERVED_NAME, is_reserved, outcome_of
from app.config.issuers import IssuerSettings
from app.errors import OUTAGE_SENTENCES, DependencyUnavailable
from app.history import History, RevocationQuery, as_json
from app.publish.writer import Writer
from app.revocation import Revocation
from app.web import params
from app.web.audit_log import AuditLog
from app.web.errors import ApiFault, bad_request, not_found
from app.web.resource import resource

# The same as for a logout token: an answer comes within two seconds.
_WRITE_SECONDS = 1.8

_Text = Annotated[str, Field(min_length=1, max_length=500, pattern=r"\S")]
_Name = Annotated[_Text, Field(json_schema_extra={"allOf": [{"pattern": FREE_NAME}]})]
_Id = Annotated[str, Field(min_length=1, max_length=255)]


# What `NewRevocation` demands across its members, in JSON Schema.
_ONE_OF_THEM: dict[str, Any] = {
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
    """Whom to end: a session (``sid``), a user (``sub``), or ``all`` of the issuer in an app."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_ONE_OF_THEM)

    issuer: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Needed where the settings have several."""
    sid: _Id | None = None
    sub: _Id | None = None
    """With ``sid``: its user, for the events. Alone: all of the user's sessions."""
    all: bool = False
    app: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """This app alone; else every app of the issuer. Needed with ``all``."""
    reason: _Text
    by: _Name | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.by is not None and is_reserved(self.by):
            raise ValueError(RESERVED_NAME)
        if self.all == (self.sid is not None or self.sub is not None):
            raise ValueError("say whom to end: sid, sub, or all")
        if self.all and self.app is None:
            raise ValueError("all needs app: in which app everybody is to be signed out")
        return self


class RevocationRoutes:
    def __init__(self, history: History, writer: Writer, records: AuditLog) -> None:
        self._history = history
        self._writer = writer
        self._records = records

    @property
    def routes(self) -> list[Route]:
        return [resource("/api/revocations", GET=self.read, POST=self.write)]

    async def write(self, request: Request) -> Response:
        """End whom the body names, up to now. 201 when all of it is durable."""
        params.query(request, [])
        new = await params.body(request, NewRevocation)
        issuer = self._issuer(new.issuer, missing=422)
        apps = self._history.apps_of(issuer.issuer)
        if new.app is not None:
            if new.app not in apps:
                raise not_found("the issuer has no app of this name here")
            apps = [new.app]
        jti = new_jti()
        found = revocations(
            issuer, apps, jti=jti, now=self._records.clock(), sid=new.sid, sub=new.sub
        )
        results = await asyncio.gather(*(self._write_one(one) for one in found))
        failed = [one for one in results if "error" in one]
        outcome = outcome_of("error" not in one for one in results)
        event, who = found[0].event, new.by or params.operator(request).who
        await self._records.act(
            "revocation.write", request, outcome=outcome, who=who, why=new.reason, iss=event.iss,
            apps=apps, kind=event.kind.value, sid=event.sid, sub=event.sub, jti=jti,
        )  # fmt: skip
        body: dict[str, Any] = {
            "act": jti, "source": event.source, "by": who, "reason": new.reason,
            "kind": event.kind.value, "iss": event.iss, "sid": event.sid, "sub": event.sub,
            "cutoff": event.cutoff, "apps": results,
        }  # fmt: skip
        if failed:
            fault = ApiFault(
                503, "not_written", "not written for every app; send it again", retry_after=5
            )
            return JSONResponse(fault.body | body, fault.status, fault.headers)
        return JSONResponse(body, 201)

    async def _write_one(self, revocation: Revocation) -> dict[str, Any]:
        until = asyncio.get_running_loop().time() + _WRITE_SECONDS
        found: dict[str, Any] = {
            "app": revocation.event.app, "markers": list(revocation.marker_keys)
        }  # fmt: skip
        try:
            written = await self._writer.write([revocation], until=until)
        except DependencyUnavailable as fault:
            return found | {"error": fault.outage.value, "why": OUTAGE_SENTENCES[fault.outage]}
        return found | {"written": written.value}

    async def read(self, request: Request) -> Response:
        """The history of one session, user, or issuer: dead or alive, since when, by which token,
        and which apps have acted."""
        found = params.query(request, ["issuer", "sid", "sub", "login_at", "app"])
        issuer = self._issuer(found.get("issuer"), missing=400)
        iss = found.get("issuer", issuer.issuer)
        if "app" in found and found["app"] not in self._history.apps_of(iss):
            raise not_found("the issuer has no app of this name here")
        question = RevocationQuery(
            iss=iss, sid=found.get("sid"), sub=found.get("sub"),
            login_at=params.login_time(found, "login_at"),
        )  # fmt: skip
        await self._records.look(
            "revocation.read", request, iss=iss, sid=question.sid, sub=question.sub
        )
        story = await self._history.session_history(
            question, [found["app"]] if "app" in found else None,
            hashed=await self._records.hashed(),
        )  # fmt: skip
        return JSONResponse(as_json(story))

    def _issuer(self, name: str | None, *, missing: int) -> IssuerSettings:
        """The one that is meant: by name where there are several."""
        issuers = self._history.issuers
        if name is not None:
            if (issuer := issuers.get(name)) is None:
                raise not_found("no issuer of this name is configured")
            return issuer
        if len({issuer.issuer for issuer in issuers.values()}) > 1:
            if missing == 422:
                raise ApiFault(422, "invalid_body", "issuer is required: there are several")
            raise bad_request("issuer is required: there are several")
        return next(iter(issuers.values()))
