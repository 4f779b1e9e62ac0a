"""A session at an identity provider, in one shape for all adapters.

Code that lists, ends and explains sessions knows no provider. Times are epoch seconds. None means
that the provider does not report a value, never that there is none.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a request came from, as the provider recorded it. Not verified."""

    user_agent: str | None = None
    ip: str | None = None


UNKNOWN_DEVICE = Device()
"""For a provider that records no devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSession:
    """One session of one user at one issuer."""

    id: str
    """The provider's id, which is the ``sid`` of its tokens."""
    issuer: str
    """The configured name: ``iss`` of the tokens."""
    user_id: str
    """The ``sub`` of its tokens."""
    created_at: float | None = None
    authenticated_at: float | None = None
    """When the user last authenticated; ``login_at`` of a Kratos session."""
    last_seen_at: float | None = None
    """When the provider last saw the user. Apps are used without it."""
    idle_expires_at: float | None = None
    """When it ends unless the user returns first."""
    expires_at: float | None = None
    """When it ends in any case."""
    active: bool = True
    """False: the provider still knows the session and reports that it has ended."""
    persistent: bool | None = None
    """Whether it outlives the browser ("remember me")."""
    offline: bool = False
    """Refresh tokens without a browser session (Keycloak's offline sessions)."""
    first_device: Device = UNKNOWN_DEVICE
    last_device: Device = UNKNOWN_DEVICE
    methods: tuple[str, ...] = ()
    """How the user authenticated, in the provider's terms (``pwd``, ``password``, ``totp``)."""
    clients: tuple[str, ...] = ()
    """Client ids of the apps that the session was used for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPage:
    """Some of a user's sessions."""

    sessions: tuple[ProviderSession, ...]
    next: str | None = None
    """An opaque token for the next page; None: this was the last page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long sessions live at a provider, in seconds; None: no such limit."""

    idle: float | None
    """From the last activity to the end."""
    absolute: float | None
    """From the login to the end."""
    source: str
    """Where the values come from: ``tenant settings``, ``realm``, ``documentation``."""
