"""The adapter for Auth0's Management API v2, which the demo provider implements too.

Scopes: ``read:sessions`` and ``delete:sessions``; ``delete:refresh_tokens`` to end refresh tokens
too; ``read:tenant_settings`` for `lifetimes`. Only Enterprise tenants have these endpoints. Auth0
accepts a deletion (202) and carries it out a little later; until then `read` can find the session.

Written from the Management API's reference (https://auth0.com/docs/api/management/v2, sessions and
users), 2026.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field

from app.sessions.api_client.calls import ApiResponse, Calls
from app.sessions.api_client.path_segment import path_segment
from app.sessions.api_client.shapes import Id, Moment, Shape, is_not_found, parse
from app.sessions.bulk import check_id, check_owner, list_all
from app.sessions.provider_session import Device, Lifetimes, ProviderSession, SessionPage
from app.sessions.session_provider import FaultKind, ProviderFault

# The largest page that the API allows.
PAGE_SIZE = 100

# For Enterprise tenants, the only ones with this API; tenants choose lower values.
MAX_LIFETIMES = Lifetimes(
    idle=100 * 86400, absolute=365 * 86400, source="Auth0's limits for Enterprise"
)

# The defaults of a tenant, in hours.
DEFAULT_IDLE_HOURS, DEFAULT_HOURS = 72.0, 168.0


class Auth0:
    """The sessions of one tenant. ``calls`` ends before ``/api/v2``."""

    kind = "auth0"
    sends_logout_tokens = True

    def __init__(self, issuer: str, calls: Calls) -> None:
        self.issuer = issuer
        self._calls = calls

    async def list(self, user_id: str, page: str | None = None) -> SessionPage:
        params = {"take": str(PAGE_SIZE)} | ({} if page is None else {"from": page})
        path = f"/api/v2/users/{path_segment(user_id)}/sessions"
        response = await self._calls.call("GET", path, expect={200, 404}, params=params)
        if _not_found(response):
            return SessionPage(sessions=())
        listed = parse(_Sessions, response.body)
        sessions = (shape.session(self.issuer) for shape in listed.sessions)
        return SessionPage(
            sessions=check_owner(sessions, user_id=user_id), next=listed.next or None
        )

    async def read(self, session_id: str, *, user_id: str | None = None) -> ProviderSession | None:
        del user_id  # the session's id is enough
        path = f"/api/v2/sessions/{path_segment(session_id)}"
        response = await self._calls.call("GET", path, expect={200, 404})
        if _not_found(response):
            return None
        session = parse(_Session, response.body).session(self.issuer)
        return check_id(session, session_id=session_id)

    async def end(self, session_id: str, *, refresh_tokens: bool = False) -> bool:
        path = f"/api/v2/sessions/{path_segment(session_id)}"
        if refresh_tokens:
            response = await self._calls.call("POST", f"{path}/revoke", expect=_ACCEPTED)
        else:
            response = await self._calls.call("DELETE", path, expect=_ACCEPTED)
        return not _not_found(response)

    async def end_all(
        self, user_id: str, *, refresh_tokens: bool = False
    ) -> tuple[ProviderSession, ...]:
        sessions = await list_all(self, user_id)
        if refresh_tokens:
            for session in sessions:  # if it fails halfway, a retry ends the rest
                await self.end(session.id, refresh_tokens=True)
        # Also ends sessions that began after they were listed.
        path = f"/api/v2/users/{path_segment(user_id)}/sessions"
        _not_found(await self._calls.call("DELETE", path, expect=_ACCEPTED))
        return sessions

    async def lifetimes(self) -> Lifetimes:
        """The tenant's settings; without the scope for them, the highest values it can have."""
        params = {"fields": ",".join(_TenantSettings.model_fields), "include_fields": "true"}
        try:
            response = await self._calls.call(
                "GET", "/api/v2/tenants/settings", expect={200}, params=params
            )
        except ProviderFault as fault:
            if fault.kind is FaultKind.FORBIDDEN:
                return MAX_LIFETIMES
            raise
        settings = parse(_TenantSettings, response.body)
        return Lifetimes(
            idle=3600 * (settings.idle_session_lifetime or DEFAULT_IDLE_HOURS),
            absolute=3600 * (settings.session_lifetime or DEFAULT_HOURS),
            source="the tenant's settings",
        )


_ACCEPTED = frozenset({200, 202, 204, 404})


class _Auth0NotFound(Shape):
    statusCode: Annotated[int, Field(ge=404, le=404)]  # noqa: N815  Auth0's spelling
    error: str


def _not_found(response: ApiResponse) -> bool:
    return is_not_found(response, _Auth0NotFound)


def _plain_time(value: object) -> object:
    """Some times are documented as "string or object", without a description of the object."""
    return None if isinstance(value, dict) else value


_Time = Annotated[Moment, BeforeValidator(_plain_time)]


class _Auth0Device(Shape):
    initial_user_agent: str | None = None
    initial_ip: str | None = None
    last_user_agent: str | None = None
    last_ip: str | None = None


class _Client(Shape):
    client_id: str


class _Auth0Method(Shape):
    name: str


class _Authentication(Shape):
    methods: tuple[_Auth0Method, ...] = ()


class _Cookie(Shape):
    mode: str | None = None


_IS_PERSISTENT = {"persistent": True, "non-persistent": False}


class _Session(Shape):
    id: Id
    user_id: Id
    created_at: _Time = None
    authenticated_at: _Time = None
    last_interacted_at: _Time = None
    idle_expires_at: _Time = None
    expires_at: _Time = None
    device: _Auth0Device | None = None
    clients: tuple[_Client, ...] | None = None
    authentication: _Authentication | None = None
    cookie: _Cookie | None = None

    def session(self, issuer: str) -> ProviderSession:
        device = self.device or _Auth0Device()
        methods = self.authentication.methods if self.authentication else ()
        return ProviderSession(
            id=self.id,
            issuer=issuer,
            user_id=self.user_id,
            created_at=self.created_at,
            authenticated_at=self.authenticated_at,
            last_seen_at=self.last_interacted_at,
            idle_expires_at=self.idle_expires_at,
            expires_at=self.expires_at,
            persistent=_IS_PERSISTENT.get(self.cookie.mode or "") if self.cookie else None,
            first_device=Device(user_agent=device.initial_user_agent, ip=device.initial_ip),
            last_device=Device(user_agent=device.last_user_agent, ip=device.last_ip),
            methods=tuple(method.name for method in methods),
            clients=tuple(client.client_id for client in self.clients or ()),
        )


class _Sessions(Shape):
    sessions: tuple[_Session, ...]
    next: Annotated[str, Field(max_length=4096)] | None = None


class _TenantSettings(Shape):
    session_lifetime: Annotated[float, Field(gt=0)] | None = None
    """Hours."""
    idle_session_lifetime: Annotated[float, Field(gt=0)] | None = None
