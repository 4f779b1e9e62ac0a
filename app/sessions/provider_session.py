"""A session at an identity provider, as every provider's API can tell of it.

One shape for all adapters, so that what lists, ends and explains sessions knows none of them.
Times are epoch seconds; None is what the provider does not say, never "none at all".
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a request came from, as the provider recorded it. Not verified by anybody."""

    user_agent: str | None = None
    ip: str | None = None


UNKNOWN_DEVICE = Device()
"""Of a provider that records none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSession:
    """One session of one user at one issuer."""

    id: str
    """The provider's id of it, which is the ``sid`` of its tokens."""
    issuer: str
    """The configured name: ``iss`` of the tokens."""
    user_id: str
    """The ``sub`` of its tokens."""
    created_at: float | None = None
    authenticated_at: float | None = None
    """The last time that the user proved who they are; what a Kratos session's ``login_at`` is."""
    last_seen_at: float | None = None
    """The last time that the provider itself saw the user: apps are used without it."""
    idle_expires_at: float | None = None
    """When it ends unless the user comes back before."""
    expires_at: float | None = None
    """When it ends whatever the user does."""
    active: bool = True
    """False where the provider still knows the session and says that it has ended."""
    persistent: bool | None = None
    """Whether it outlives the browser's end ("remember me")."""
    offline: bool = False
    """Refresh tokens that live without a session in a browser (Keycloak's offline sessions)."""
    first_device: Device = UNKNOWN_DEVICE
    last_device: Device = UNKNOWN_DEVICE
    methods: tuple[str, ...] = ()
    """How the user authenticated, in the provider's words (``pwd``, ``password``, ``totp``)."""
    clients: tuple[str, ...] = ()
    """Client ids of the apps that the session was used for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPage:
    """Some of a user's sessions."""

    sessions: tuple[ProviderSession, ...]
    next: str | None = None
    """What to ask for the next page with; opaque. None: this was the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long sessions live at a provider, in seconds; None: it sets no such limit."""

    idle: float | None
    """From the last activity to the end."""
    absolute: float | None
    """From the login to the end."""
    source: str
    """Where this was read, for people: ``tenant settings``, ``realm``, ``documentation``."""
