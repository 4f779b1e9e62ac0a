"""The answers of the users' API, with Auth0's names for every provider. Pure.

They reveal nothing internal: neither the apps' names nor why a provider is slow.
"""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, PlainSerializer

from app.account.devices import Kind, describe
from app.sessions.provider_session import Device, ProviderSession
from app.sessions.termination.termination import Phase, Termination
from app.web.session_models import TerminationModel

# Some apps only notice a logout when they are used: waiting any longer shows nothing new.
SETTLED_SECONDS = 10.0


def _rfc3339(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


_Time = Annotated[float, PlainSerializer(_rfc3339)]
"""Epoch seconds, serialized as RFC 3339 in UTC."""


class UserAgentDevice(BaseModel):
    """The device of a session, as the user agent names it."""

    initial_user_agent: str | None
    initial_ip: str | None
    last_user_agent: str | None
    last_ip: str | None
    browser: str | None
    os: str | None
    kind: Kind


class UsedClient(BaseModel):
    client_id: str


class AccountSession(BaseModel):
    """One of the user's sessions; null is unknown to the provider."""

    id: str
    user_id: str
    created_at: _Time | None
    updated_at: _Time | None
    authenticated_at: _Time | None
    idle_expires_at: _Time | None
    expires_at: _Time | None
    last_interacted_at: _Time | None
    device: UserAgentDevice
    clients: list[UsedClient]
    current: bool


class AppProgress(BaseModel):
    """How many apps the termination concerns, reached, and had an effect in."""

    total: int
    told: int
    let_go: int


class TerminationProgress(BaseModel):
    """``final``: no further change is expected."""

    id: str
    state: str
    gone: bool
    final: bool
    apps: AppProgress


class OthersProgress(BaseModel):
    """The terminations of one request to end all other sessions."""

    sessions: list[TerminationProgress]


class EndedOthers(OthersProgress):
    """``more``: some sessions are left; repeat the request."""

    more: bool


def account_session(session: ProviderSession, *, current: bool) -> AccountSession:
    seen = session.last_seen_at
    return AccountSession(
        id=session.id,
        user_id=session.user_id,
        created_at=session.created_at,
        updated_at=seen if seen is not None else session.authenticated_at,
        authenticated_at=session.authenticated_at,
        idle_expires_at=session.idle_expires_at,
        expires_at=session.expires_at,
        last_interacted_at=seen,
        device=_device(session.first_device, session.last_device),
        clients=[UsedClient(client_id=client_id) for client_id in session.clients],
        current=current,
    )


def termination_progress(
    termination: Termination, model: TerminationModel, now: float
) -> TerminationProgress:
    """``model`` is the operators' view of the termination, with each app's proof."""
    over_at = termination.over_at
    settled = over_at is not None and now - over_at >= SETTLED_SECONDS
    unconfirmed = termination.phase is Phase.UNCONFIRMED
    return TerminationProgress(
        id=termination.session,
        state=model.state,
        gone=termination.gone_at is not None,
        final=model.state == "proven" or unconfirmed or settled,
        apps=AppProgress(
            total=len(termination.apps),
            told=len(termination.deliveries),
            let_go=sum(app.proven for app in model.apps),
        ),
    )


def _device(first: Device, last: Device) -> UserAgentDevice:
    agent = last.user_agent or first.user_agent
    browser, system, kind = describe(agent) if agent else (None, None, "unknown")
    return UserAgentDevice(
        initial_user_agent=first.user_agent,
        initial_ip=first.ip,
        last_user_agent=last.user_agent,
        last_ip=last.ip,
        browser=browser,
        os=system,
        kind=kind,
    )
