"""Explains a pasted token, and looks up the session of one. Tokens are never stored, logged or
echoed."""

import math
from dataclasses import dataclass

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.backchannel.explain import WAS_VALID, ExplainLine, explain
from app.config.model import Settings
from app.console.feed_views import story_address
from app.console.forms import query, session_form
from app.console.rendering import Rendering
from app.errors import TokenRefused, to_http
from app.history import History
from app.tokens import signed_jwt
from app.web.audit_log import AuditLog
from app.web.errors import ApiError


@dataclass(frozen=True, slots=True)
class TokenFormRoutes:
    settings: Settings
    history: History
    audit_log: AuditLog
    rendering: Rendering

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/console/explain", self.show, methods=["GET"]),
            Route("/console/explain", self.explain, methods=["POST"]),
            Route("/console/search", self.search, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        query(request)
        return self.rendering.page(request, "explain", lines=None, fault=None)

    async def explain(self, request: Request) -> Response:
        """The token, rule by rule."""
        token = _token(await session_form(request))
        await self.audit_log.record_act("console.explain", request)
        lines: list[ExplainLine] = []
        fault = await explain(self.settings, token, lines.append)
        answer = f"{to_http(fault)[0]}: {fault}" if fault is not None else None
        valid_at = next((line.text for line in lines if line.name == WAS_VALID), None)
        return self.rendering.page(
            request, "explain", lines=[line for line in lines if line.name != WAS_VALID],
            fault=answer, refused=isinstance(fault, TokenRefused), valid_at=valid_at,
        )  # fmt: skip

    async def search(self, request: Request) -> Response:
        """Redirects to the story of an ID token's session."""
        token = _token(await session_form(request))
        try:
            claims = signed_jwt.parse(token).unverified_claims
        except TokenRefused:
            raise ApiError(400, "no_token", "this is no signed token") from None
        iss, sid, sub, iat = (claims.get(name) for name in ("iss", "sid", "sub", "iat"))
        texts = [text for text in (iss, sid, sub) if text is not None]
        if not all(isinstance(text, str) and 0 < len(text) < 1000 for text in texts) or iss is None:
            raise ApiError(400, "no_claims", "the token has no iss, sid or sub that can be used")
        if sid is None and sub is None:
            raise ApiError(400, "no_claims", "the token has neither sid nor sub")
        if iss not in self.history.issuers:
            raise ApiError(400, "no_claims", "the token's issuer is not configured here")
        is_number = isinstance(iat, int | float) and not isinstance(iat, bool)
        if not is_number or not math.isfinite(iat or 0) or not 0 <= (iat or 0) < 1e12:
            raise ApiError(400, "no_claims", "the token has no iat")
        address = story_address(str(iss), sid, sub, math.floor(iat or 0))
        return RedirectResponse(f"{address}&unverified=1", 303)


def _token(fields: FormData) -> bytes:
    token = str(fields.get("token", "")).strip().encode("utf-8", "replace")
    if not token:
        raise ApiError(400, "no_token", "paste a token")
    return token
