"""`/api/issuers` and `/api/apps`: the configuration and its current state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.admin.probes import Body
from app.admin.responses import (
    AppsResponse,
    ClientModel,
    IssuerModel,
    IssuersResponse,
    SessionApiModel,
)
from app.config.issuers import IssuerSettings
from app.history import History
from app.sessions.session_provider import SessionProvider
from app.web import params
from app.web.json_api import json_response
from app.web.resource import resource


@dataclass(frozen=True, slots=True)
class OverviewRoutes:
    """``health`` returns the body of `/readyz`."""

    history: History
    providers: Mapping[str, SessionProvider]
    health: Callable[[], Body]

    @property
    def routes(self) -> list[Route]:
        return [
            resource("/api/issuers", GET=self.issuers),
            resource("/api/apps", GET=self.apps),
        ]

    async def issuers(self, request: Request) -> Response:
        """Every configured issuer, with the state of its keys and its session API."""
        params.query(request, [])
        keys = self.health()["issuers"]
        issuers = {issuer.issuer: issuer for issuer in self.history.issuers.values()}
        models = [self._model(issuer, keys.get(name)) for name, issuer in issuers.items()]
        return json_response(IssuersResponse(issuers=models))

    def _model(self, issuer: IssuerSettings, keys: dict[str, Any] | None) -> IssuerModel:
        provider = self.providers.get(issuer.issuer)
        return IssuerModel(
            issuer=issuer.issuer,
            aliases=list(issuer.aliases),
            algorithms=list(issuer.algorithms),
            clients=[ClientModel.model_validate(client) for client in issuer.clients],
            sessions=None if provider is None else SessionApiModel.model_validate(provider),
            keys=keys,
        )

    async def apps(self, request: Request) -> Response:
        """Every app at a glance: readers, lag, the last event, dead letters."""
        params.query(request, [])
        return json_response(AppsResponse(apps=list(await self.history.overviews())))
