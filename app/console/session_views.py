"""A session's device, and the timeline of a termination. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.console.story_views import TimelineStep
from app.console.texts import PHASES, PROOFS, behind
from app.errors import OUTAGE_SENTENCES, Outage
from app.formatting import rounded_duration
from app.sessions.provider_session import ProviderSession
from app.sessions.session_provider import SENTENCES, FaultKind
from app.sessions.termination.termination import Problem
from app.web.session_models import InformedApp, TerminationModel, WaitingApp


def device(session: ProviderSession) -> str:
    """The device of the last use, otherwise of the first."""
    last = session.last_device
    chosen = last if last.ip or last.user_agent else session.first_device
    return " · ".join(text for text in (chosen.user_agent, chosen.ip) if text) or "unknown"


@dataclass(frozen=True, slots=True)
class TerminationView:
    """``complete``: no further change is expected."""

    session: str
    state: str
    tone: str
    steps: Sequence[TimelineStep]
    trouble: str | None
    explanation: str | None
    complete: bool


# In order: the attribute with the time, and the phase.
_PHASE_TIMES = {
    "began_at": "begun", "asked_at": "asked", "gone_at": "gone", "received_at": "received",
    "written_at": "written",
}  # fmt: skip

_TONES = {"proven": "good", "confirmed": "good", "unconfirmed": "bad"}


def termination_view(model: TerminationModel) -> TerminationView:
    steps = [
        TimelineStep(
            PHASES[phase], f"after {rounded_duration(max(0.0, at - model.began_at))}", "good", at
        )
        for attribute, phase in _PHASE_TIMES.items()
        if (at := getattr(model, attribute)) is not None
    ]
    steps.sort(key=lambda step: step.at or 0.0)
    steps += map(_app_step, model.apps)
    return TerminationView(
        session=model.session or f"All sessions of {model.user}",
        state=PHASES[model.state], tone=_TONES.get(model.state, "wait"), steps=steps,
        trouble=_trouble(model.trouble, over=model.over), explanation=model.explanation,
        complete=model.over and model.state in ("proven", "unconfirmed"),
    )  # fmt: skip


def _app_step(app: InformedApp | WaitingApp) -> TimelineStep:
    text = "The app has no event yet"
    if isinstance(app, InformedApp) and app.proof is not None:
        text = PROOFS[app.proof.status]
        if app.proof.readers > app.proof.seen:
            text += behind(app.proof)
    if app.proven:
        return TimelineStep(app.app, text, "good")
    return TimelineStep(app.app, f"Not yet: {text}", "bad")


def _trouble(problem: Problem | None, *, over: bool) -> str | None:
    """What delays it, as a sentence with the provider's code."""
    if problem is None:
        return None
    if problem.what in set(FaultKind):
        sentence = SENTENCES[FaultKind(problem.what)]
    elif problem.what in set(Outage):
        sentence = OUTAGE_SENTENCES[Outage(problem.what)]
    else:
        sentence = "the provider accepted the request and still knows the session"
    sentence += f" ({problem.detail})" if problem.detail else ""
    if over:
        return f"Last problem: {sentence}."
    return f"Not done yet: {sentence}. Retrying; attempts so far: {problem.tries}."
