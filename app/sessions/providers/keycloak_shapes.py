"""Responses of Keycloak's Admin REST API, as far as they are used."""

# ruff: noqa: N815  the members have Keycloak's names

from typing import Annotated

from pydantic import Field

from app.sessions.api_client.shapes import Id, Shape
from app.sessions.provider_session import Device, Lifetimes, ProviderSession

# Milliseconds, up to the year 9999.
_MAX_MILLISECONDS = 3e14


class KeycloakSession(Shape):
    """``UserSessionRepresentation``."""

    id: Id
    userId: Id
    ipAddress: str | None = None
    start: float | None = Field(default=None, ge=0, le=_MAX_MILLISECONDS)
    lastAccess: float | None = Field(default=None, ge=0, le=_MAX_MILLISECONDS)
    rememberMe: bool = False
    clients: dict[str, str] | None = None
    """Client ids by the clients' internal ids."""

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
    """A user's grant to a client; also for clients that only have an offline token."""

    additionalGrants: tuple[_Grant, ...] | None = None

    @property
    def offline_clients(self) -> tuple[str, ...]:
        """The clients' internal ids."""
        return tuple(grant.client for grant in self.additionalGrants or () if grant.client)


class ClientStats(Shape):
    """How many sessions a client has. Keycloak writes numbers as strings here."""

    id: Id
    active: int = 0
    offline: int = 0


class KeycloakNotFound(Shape):
    """The 404 of a missing session or user. That of an unknown realm or path is a wrong setting."""

    # Keycloak has misspelled the first one for years.
    error: Annotated[str, Field(pattern=r"(?i)^(sess+ion|user) not found\b")]


class Realm(Shape):
    """How long the realm's sessions live, in seconds; missing values mean Keycloak's defaults."""

    ssoSessionIdleTimeout: float | None = None
    ssoSessionMaxLifespan: float | None = None
    rememberMe: bool = False
    ssoSessionIdleTimeoutRememberMe: float | None = None
    ssoSessionMaxLifespanRememberMe: float | None = None

    def lifetimes(self, *, remember_me: bool) -> Lifetimes:
        """``remember_me``: for a remembered session, where 0 means the same as for the others."""
        idle = self.ssoSessionIdleTimeout or 1800.0
        absolute = self.ssoSessionMaxLifespan or 36000.0
        if remember_me:
            idle = self.ssoSessionIdleTimeoutRememberMe or idle
            absolute = self.ssoSessionMaxLifespanRememberMe or absolute
        known = self.ssoSessionMaxLifespan is not None
        source = "the realm's settings" if known else "Keycloak's defaults"
        return Lifetimes(idle=idle, absolute=absolute, source=source)

    def longest(self) -> Lifetimes:
        """The lifetimes of the sessions that live longest."""
        plain, remembered = self.lifetimes(remember_me=False), self.lifetimes(remember_me=True)
        if self.rememberMe and (remembered.absolute or 0) > (plain.absolute or 0):
            return remembered
        return plain


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
