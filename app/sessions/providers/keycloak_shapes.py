"""What Keycloak's Admin REST API answers with, as far as we read it."""

# ruff: noqa: N815  members are called as they are written there

from pydantic import Field

from app.sessions.api_client.shapes import Id, Shape
from app.sessions.provider_session import Device, Lifetimes, ProviderSession

# Keycloak counts milliseconds, up to the year 9999 here.
_LATEST = 3e14


class KeycloakSession(Shape):
    """``UserSessionRepresentation``."""

    id: Id
    userId: Id
    ipAddress: str | None = None
    start: float | None = Field(default=None, ge=0, le=_LATEST)
    lastAccess: float | None = Field(default=None, ge=0, le=_LATEST)
    rememberMe: bool = False
    clients: dict[str, str] | None = None
    """The client ids, by the clients' own ids."""

    def session(self, issuer: str, offline: bool) -> ProviderSession:
        device = Device(ip=self.ipAddress or None)
        return ProviderSession(
            id=self.id,
            issuer=issuer,
            user_id=self.userId,
            created_at=_seconds(self.start),
            authenticated_at=_seconds(self.start),
            last_seen_at=_seconds(self.lastAccess),
            persistent=self.rememberMe,
            offline=offline,
            first_device=device,
            last_device=device,
            clients=tuple(sorted((self.clients or {}).values())),
        )


class _Grant(Shape):
    client: str | None = None


class Consent(Shape):
    """What a user granted a client; also of clients that were only given an offline token."""

    additionalGrants: tuple[_Grant, ...] | None = None

    @property
    def offline_clients(self) -> tuple[str, ...]:
        """The clients' own ids."""
        return tuple(one.client for one in self.additionalGrants or () if one.client)


class ClientStats(Shape):
    """How many sessions a client has. Keycloak writes numbers as texts here."""

    id: Id
    active: int = 0
    offline: int = 0


class KeycloakError(Shape):
    """The body of a 404."""

    error: str


class Realm(Shape):
    """How long the realm's sessions live, in seconds; Keycloak's defaults where it is not said."""

    ssoSessionIdleTimeout: float | None = None
    ssoSessionMaxLifespan: float | None = None
    rememberMe: bool = False
    ssoSessionIdleTimeoutRememberMe: float | None = None
    ssoSessionMaxLifespanRememberMe: float | None = None

    def lifetimes(self, *, remember_me: bool) -> Lifetimes:
        """``remember_me``: of a session that is remembered; 0 there means as for the others."""
        idle = self.ssoSessionIdleTimeout or 1800.0
        absolute = self.ssoSessionMaxLifespan or 36000.0
        if remember_me:
            idle = self.ssoSessionIdleTimeoutRememberMe or idle
            absolute = self.ssoSessionMaxLifespanRememberMe or absolute
        told = self.ssoSessionMaxLifespan is not None
        source = "the realm's settings" if told else "Keycloak's defaults"
        return Lifetimes(idle=idle, absolute=absolute, source=source)

    def longest(self) -> Lifetimes:
        """Of the sessions that live longest."""
        plain, remembered = self.lifetimes(remember_me=False), self.lifetimes(remember_me=True)
        if self.rememberMe and (remembered.absolute or 0) > (plain.absolute or 0):
            return remembered
        return plain


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
