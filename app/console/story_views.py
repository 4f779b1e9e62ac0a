"""What the page of a story shows, from what history tells. Pure.

The conclusion is history's own, which the command `story` and the API show as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.console.texts import PROOFS, SOURCES, TEXTS
from app.formatting import moment, rounded_duration
from app.history import AppHistory, Conclusion, DeliveredEvent, SessionHistory, State
from app.history.conclusion import SENTENCES, app_conclusion
from backchannel_logout import AppStatus

_TONES = {
    Conclusion.UNREADABLE: "bad",
    Conclusion.REFUSED: "bad",
    Conclusion.WAITING: "wait",
    Conclusion.NOT_APPLIED: "bad",
    Conclusion.GIVEN_UP: "bad",
    Conclusion.NOT_YET: "wait",
    Conclusion.NOT_READ: "bad",
    Conclusion.ENDED: "plain",
    Conclusion.COMPLETE: "good",
    Conclusion.LATER_LOGIN: "plain",
    Conclusion.NOTHING_KNOWN: "plain",
}

_DONE = (AppStatus.TORN_DOWN, AppStatus.SEEN, AppStatus.ASKS)

# Nothing more is to come.
_OVER = (Conclusion.COMPLETE, Conclusion.ENDED, Conclusion.LATER_LOGIN)

# Seconds after which a page looks again, first; then ever more seldom. What nothing is known of
# is looked for everywhere.
_SOON, _LATER = 1, 10


@dataclass(frozen=True, slots=True)
class StoryStep:
    """A line of a timeline."""

    name: str
    said: str
    tone: str
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Chapter:
    """One event of an app, from its arrival to what the app did."""

    title: str
    steps: Sequence[StoryStep]


@dataclass(frozen=True, slots=True)
class Tale:
    """One app's part of a story. ``older``: events of which only the titles are shown."""

    app: str
    verdict: str
    tone: str
    markers: Sequence[str]
    chapters: Sequence[Chapter]
    older: Sequence[str]
    lost: bool


@dataclass(frozen=True, slots=True)
class Whole:
    """A story. ``refresh`` is in how many seconds the page looks again; 0: never."""

    sentence: str
    tone: str
    key: str
    refresh: int
    tales: Sequence[Tale]


def whole(story: SessionHistory) -> Whole:
    """The page's part that changes."""
    found = story.conclusion
    return Whole(
        sentence=SENTENCES[found], tone=_TONES[found], key=found.value,
        refresh=0 if found in _OVER else _LATER if found is Conclusion.NOTHING_KNOWN else _SOON,
        tales=[tale(story, one) for one in story.apps],
    )  # fmt: skip


def tale(whole_story: SessionHistory, story: AppHistory) -> Tale:
    """One app's part."""
    question = whole_story.question
    verdict, tone = _verdict(whole_story, story)
    about = [one for one in story.events if one.covers or question.sid is None]
    return Tale(
        app=story.app, verdict=verdict, tone=tone, lost=story.lost,
        markers=[
            f"{one.kind}: {TEXTS['up_to']}"
            f" {'?' if one.cutoff is None else moment(one.cutoff)}"
            + (
                f", {TEXTS['kept_for']} {rounded_duration(one.expires_in)}"
                if one.expires_in
                else ""
            )
            for one in story.markers
        ],
        chapters=[_chapter(one) for one in about if one.proof is not None],
        older=[_title(one) for one in about if one.proof is None],
    )  # fmt: skip


def _verdict(whole_story: SessionHistory, story: AppHistory) -> tuple[str, str]:
    if story.fault is not None:
        return f"{TEXTS['fault']} ({story.fault})", "bad"
    known_login = whole_story.question.login_at is not None
    at = moment(story.cutoff or 0)
    match story.state:
        case State.REVOKED if known_login:
            return TEXTS["dead"].format(at=at), _tone_of_dead(whole_story, story)
        case State.REVOKED if whole_story.refusals:
            # A marker says nothing of the token that came later and did not end anything.
            return TEXTS["dead_but"].format(at=at), "wait"
        case State.REVOKED:
            return TEXTS["dead_up_to"].format(at=at), _tone_of_dead(whole_story, story)
        case State.EXPIRED:
            return TEXTS["dead_by_age"], "good"
        case State.ALIVE if story.markers:
            return TEXTS["alive_later"], "plain"
        case State.ALIVE if whole_story.conclusion is Conclusion.NOTHING_KNOWN:
            return TEXTS["not_known"], "plain"
        case State.ALIVE:
            return TEXTS["not_ended"], "plain"
        case _ if story.max_session_age is None:
            return TEXTS["never_served"], "bad"
        case _:
            return TEXTS["no_verdict"], "bad"


def _tone_of_dead(whole_story: SessionHistory, story: AppHistory) -> str:
    """Green only where the app has acted as well."""
    found = app_conclusion(whole_story.question, story)
    return {Conclusion.COMPLETE: "good", Conclusion.GIVEN_UP: "bad"}.get(found, "wait")


def _title(told: DeliveredEvent) -> str:
    name = TEXTS["event"] if told.event is None else TEXTS[f"ended_{told.event.kind.value}"]
    return f"{name} · {moment(told.at)} · {told.id}"


def _chapter(told: DeliveredEvent) -> Chapter:
    event = told.event
    if event is None:
        steps = [StoryStep(TEXTS["written"], TEXTS["unreadable"], "wait", told.at)]
        return Chapter(f"{TEXTS['event']} {told.id}", steps)
    token = event.source == "backchannel-logout"
    by_us = TEXTS["by_receiver"].format(provider=event.source)
    verified = TEXTS["verified_said" if token else "by_admin"]
    if event.client_ids:
        verified += f"; {TEXTS['client']} {', '.join(event.client_ids)}"
    if event.jti is not None:
        verified += f"; jti {event.jti}"
    steps = [
        StoryStep(TEXTS["received"], SOURCES.get(event.source, by_us), "good", event.received_at),
        StoryStep(TEXTS["verified"], verified, "good"),
        StoryStep(
            TEXTS["written"],
            f"{TEXTS['after']} {rounded_duration(max(0.0, told.at - event.received_at))}",
            "good", told.at,
        ),
        _proof(told),
    ]  # fmt: skip
    return Chapter(f"{TEXTS['ended_' + event.kind.value]} · {TEXTS['event']} {told.id}", steps)


def _proof(told: DeliveredEvent) -> StoryStep:
    """What the app did; "not yet" with its reason."""
    proof = told.proof
    if proof is None:
        return StoryStep(TEXTS["acted"], TEXTS["unknown"], "wait")
    said = PROOFS[proof.status]
    if behind := proof.readers - proof.seen:
        said += TEXTS["replicas_behind"].format(behind=behind, all=proof.readers)
    elif proof.readers:
        said += TEXTS["replicas_done"].format(done=proof.seen, all=proof.readers)
    if proof.seconds is not None:
        said += f", {TEXTS['after']} {rounded_duration(proof.seconds)}"
    for letter in told.dead_letters:
        name = "failing" if letter.tries is None else "failing_after"
        said += TEXTS[name].format(listener=letter.listener, tries=letter.tries, error=letter.error)
    done = proof.status in _DONE
    return StoryStep(TEXTS["acted" if done else "not_yet"], said, "good" if done else "bad")
