"""`/api/issuers`, `/api/apps`: what is configured, and how it is."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.admin.probes import Body
from app.config.issuers import IssuerSettings
from app.history import History, as_json
from app.sessions.session_provider import SessionProvider
from app.web import params
from app.web.resource import resource


class OverviewRoutes:
    """``health`` says what `/readyz` would."""

    def __init__(
        self,
        history: History,
        providers: Mapping[str, SessionProvider],
        health: Callable[[], Body],
    ) -> None:
        self._history = history
        self._providers = providers
        self._health = health

    @property
    def routes(self) -> list[Route]:
        return [
            resource("/api/issuers", GET=self.issuers),
            resource("/api/apps", GET=self.apps),
        ]

    async def issuers(self, request: Request) -> Response:
        """Every issuer of the settings, with the state of its keys and its session API."""
        params.query(request, [])
        keys = self._health()["issuers"]
        own = {issuer.issuer: issuer for issuer in self._history.issuers.values()}
        return JSONResponse(
            {"issuers": [self._shown(issuer, keys.get(name)) for name, issuer in own.items()]}
        )

    def _shown(self, issuer: IssuerSettings, keys: object) -> dict[str, Any]:
        provider = self._providers.get(issuer.issuer)
        return {
            "issuer": issuer.issuer,
            "aliases": list(issuer.aliases),
            "algorithms": list(issuer.algorithms),
            "clients": [
                {
                    "client_id": client.client_id,
                    "app": client.app,
                    "max_session_age": client.max_session_age,
                }
                for client in issuer.clients
            ],
            "sessions": None
            if provider is None
            else {
                "kind": provider.kind,
                "sends_logout_tokens": provider.sends_logout_tokens,
            },
            "keys": keys,
        }

    async def apps(self, request: Request) -> Response:
        """Every app at a glance: readers, lag, the last event, dead letters."""
        params.query(request, [])
        return JSONResponse({"apps": as_json(await self._history.overviews())})
