"""What the pages of sessions and of their ends show. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.console.story_views import StoryStep
from app.console.texts import PROOFS, STEPS, TEXTS
from app.errors import OUTAGE_SENTENCES, Outage
from app.formatting import rounded_duration
from app.sessions.provider_session import ProviderSession
from app.sessions.session_provider import SENTENCES, FaultKind
from app.sessions.termination.termination import Problem
from app.web.session_models import InformedApp, TerminationModel, WaitingApp


def device(session: ProviderSession) -> str:
    """Where it was used last, as people know it; else where it began."""
    last = session.last_device
    found = last if last.ip or last.user_agent else session.first_device
    return " · ".join(one for one in (found.user_agent, found.ip) if one) or TEXTS["unknown"]


@dataclass(frozen=True, slots=True)
class TerminationView:
    """How far the end of a session is. ``complete``: nothing more is to come."""

    session: str
    state: str
    tone: str
    steps: Sequence[StoryStep]
    trouble: str | None
    explanation: str | None
    complete: bool


# The steps in their order: the attribute with the time, and the name.
_STEPS = {
    "began_at": "begun", "asked_at": "asked", "gone_at": "gone", "received_at": "received",
    "written_at": "written",
}  # fmt: skip


def termination_view(model: TerminationModel) -> TerminationView:
    steps = [
        StoryStep(
            STEPS[name],
            f"{TEXTS['after']} {rounded_duration(max(0.0, at - model.began_at))}",
            "good",
            at,
        )
        for attribute, name in _STEPS.items()
        if (at := getattr(model, attribute)) is not None
    ]
    steps.sort(key=lambda step: step.at or 0.0)
    steps += map(_app_step, model.apps)
    tones = {"proven": "good", "confirmed": "good", "unconfirmed": "bad"}
    return TerminationView(
        session=model.session or TEXTS["all_sessions"].format(user=model.user),
        state=STEPS[model.state], tone=tones.get(model.state, "wait"), steps=steps,
        trouble=_trouble(model.trouble, over=model.over), explanation=model.explanation,
        complete=model.over and model.state in ("proven", "unconfirmed"),
    )  # fmt: skip


def _app_step(app: InformedApp | WaitingApp) -> StoryStep:
    text = TEXTS["not_told_yet"]
    if isinstance(app, InformedApp) and app.proof is not None:
        text = PROOFS[app.proof.status]
        if behind := app.proof.readers - app.proof.seen:
            text += TEXTS["replicas_behind"].format(behind=behind, all=app.proof.readers)
    if app.proven:
        return StoryStep(app.app, text, "good")
    return StoryStep(app.app, f"{TEXTS['not_yet']}: {text}", "bad")


def _trouble(problem: Problem | None, *, over: bool) -> str | None:
    """What delays it, as a sentence with the provider's code."""
    if problem is None:
        return None
    if problem.what in set(FaultKind):
        sentence = SENTENCES[FaultKind(problem.what)]
    elif problem.what in set(Outage):
        sentence = OUTAGE_SENTENCES[Outage(problem.what)]
    else:
        sentence = TEXTS["still_there"]
    detail = f" ({problem.detail})" if problem.detail else ""
    name = "trouble_over" if over else "trouble"
    return TEXTS[name].format(sentence=sentence, detail=detail, tries=problem.tries)
