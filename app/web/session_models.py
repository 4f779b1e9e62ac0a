"""A provider's sessions and their terminations, as the APIs and the console return them."""

import contextlib
import dataclasses
from typing import Literal

from pydantic import BaseModel

from app.history import DeadLetter, DeliveredEvent, History, Unreadable
from app.history.record_json import ProofRecord
from app.sessions.lifecycle import SessionState, ends_at, state
from app.sessions.provider_session import Device, ProviderSession
from app.sessions.termination.report import explanation
from app.sessions.termination.termination import Phase, Problem, Termination
from backchannel_logout import AppStatus

# With this status an app no longer accepts the session.
_PROVEN = (AppStatus.TORN_DOWN, AppStatus.SEEN, AppStatus.ASKS)


class SessionModel(BaseModel):
    """A session as the provider reports it, with its current state."""

    id: str
    issuer: str
    user: str
    state: SessionState
    ends_at: float | None
    created_at: float | None
    authenticated_at: float | None
    last_seen_at: float | None
    idle_expires_at: float | None
    expires_at: float | None
    active: bool
    persistent: bool | None
    offline: bool
    first_device: Device
    last_device: Device
    methods: tuple[str, ...]
    clients: tuple[str, ...]


class WaitingApp(BaseModel):
    """An app that has no event of the termination yet."""

    app: str
    state: Literal["waiting"] = "waiting"
    proven: Literal[False] = False


class InformedApp(BaseModel):
    """An app whose marker and event are written, and what the app has done since."""

    app: str
    state: Literal["written"] = "written"
    event: str
    source: str
    cutoff: int
    received_at: float
    proof: ProofRecord | None
    dead_letters: tuple[DeadLetter, ...]
    proven: bool


class TerminationModel(BaseModel):
    """The progress of a termination. ``session`` null: all sessions of the user, ended with one
    call."""

    issuer: str
    session: str | None
    user: str
    provider: str
    state: Phase | Literal["proven"]
    over: bool
    refresh_tokens: bool
    began_at: float
    asked_at: float | None
    gone_at: float | None
    received_at: float | None
    written_at: float | None
    over_at: float | None
    trouble: Problem | None
    explanation: str | None
    apps: list[InformedApp | WaitingApp]


def session_model(session: ProviderSession, now: float) -> SessionModel:
    members = dataclasses.asdict(session)
    return SessionModel(
        user=members.pop("user_id"), state=state(session, now), ends_at=ends_at(session), **members
    )


async def termination_model(
    termination: Termination, history: History, confirm_within: float
) -> TerminationModel:
    """The progress with each app's current proof; ``proven`` once all of them have acted."""
    apps = [await _app(termination, app, history) for app in termination.apps]
    confirmed = termination.phase is Phase.CONFIRMED
    proven = confirmed and bool(apps) and all(app.proven for app in apps)
    return TerminationModel(
        issuer=termination.issuer,
        session=termination.session or None,
        user=termination.user,
        provider=termination.provider,
        state="proven" if proven else termination.phase,
        over=termination.over_at is not None,
        refresh_tokens=termination.refresh_tokens,
        began_at=termination.began_at,
        asked_at=termination.asked_at,
        gone_at=termination.gone_at,
        received_at=termination.received_at,
        written_at=termination.written_at,
        over_at=termination.over_at,
        trouble=termination.problem,
        explanation=explanation(termination, confirm_within),
        apps=apps,
    )


async def _app(termination: Termination, app: str, history: History) -> InformedApp | WaitingApp:
    delivery = termination.deliveries.get(app)
    if delivery is None:
        return WaitingApp(app=app)
    delivered = DeliveredEvent(app=app, id=delivery.event, event=None)
    with contextlib.suppress(Unreadable):  # the rest is known without Redis
        delivered = await history.with_proof(delivered)
    proof = delivered.proof
    return InformedApp(
        app=app,
        event=delivery.event,
        source=delivery.source,
        cutoff=delivery.cutoff,
        received_at=delivery.at,
        proof=proof,
        dead_letters=delivered.dead_letters,
        proven=proof is not None and proof.status in _PROVEN,
    )
