"""What the pages of sessions and of their ends show. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.console.story_views import StoryStep
from app.console.texts import PROOFS, STEPS, TEXTS
from app.errors import OUTAGE_SENTENCES, Outage
from app.formatting import length
from app.sessions.provider_session import ProviderSession
from app.sessions.session_provider import SENTENCES, FaultKind
from backchannel_logout import AppStatus


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


# What a step is called, by the time at which it came, in its order.
_STEP_TIMES = {
    "began_at": "begun", "asked_at": "asked", "gone_at": "gone", "received_at": "received",
    "written_at": "written",
}  # fmt: skip


def ending(found: Mapping[str, Any]) -> TerminationView:
    """From what `shown_ending` says."""
    began, state = found["began_at"], found["state"]
    steps = [
        StoryStep(
            STEPS[name],
            f"{TEXTS['after']} {length(max(0.0, found[at] - began))}",
            "good",
            found[at],
        )
        for at, name in _STEP_TIMES.items()
        if found[at] is not None
    ]
    steps.sort(key=lambda one: one.at or 0.0)
    for app in found["apps"]:
        proof, standing = app.get("proof"), TEXTS["not_told_yet"]
        if proof is not None:
            standing = PROOFS[AppStatus(proof["standing"])]
            if behind := proof["readers"] - proof["seen"]:
                standing += TEXTS["replicas_behind"].format(behind=behind, all=proof["readers"])
        said = standing if app["proven"] else f"{TEXTS['not_yet']}: {standing}"
        steps.append(StoryStep(app["app"], said, "good" if app["proven"] else "bad"))
    over = found["over"] and state in ("proven", "unconfirmed")
    tone = {"proven": "good", "confirmed": "good", "unconfirmed": "bad"}.get(state, "wait")
    whose = found["session"] or TEXTS["all_sessions"].format(user=found["user"])
    return TerminationView(
        session=whose, state=STEPS[state], tone=tone, steps=steps,
        trouble=_trouble(found["trouble"], over=found["over"]),
        explanation=found["explanation"], complete=over,
    )  # fmt: skip


def _trouble(found: Mapping[str, Any] | None, *, over: bool) -> str | None:
    """What is in the way, as a sentence; the provider's code behind it, for who looks it up."""
    if found is None:
        return None
    what, detail = found["what"], found["detail"]
    if what in set(FaultKind):
        sentence = SENTENCES[FaultKind(what)]
    elif what in set(Outage):
        sentence = OUTAGE_SENTENCES[Outage(what)]
    else:
        sentence = TEXTS["still_there"]
    behind = f" ({detail})" if detail else ""
    name = "trouble_over" if over else "trouble"
    return TEXTS[name].format(sentence=sentence, detail=behind, tries=found["tries"])
