"""The story of a session or user as timelines, one per app. Pure.

The conclusion is the one that the command `story` and the API show as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.console.texts import ENDED, PROOFS, behind
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

# No further change is expected.
_FINAL = (Conclusion.COMPLETE, Conclusion.ENDED, Conclusion.LATER_LOGIN)

# Seconds until the page refreshes for the first time. A search for an unknown id is expensive.
_SOON, _LATER = 1, 10

_BY_TOKEN = "backchannel-logout"
_RECEIVED = {_BY_TOKEN: "by logout token", "admin": "from an administrator"}

_VERDICT_UNREADABLE = "This cannot be read from Redis"


@dataclass(frozen=True, slots=True)
class TimelineStep:
    name: str
    text: str
    tone: str
    at: float | None = None


@dataclass(frozen=True, slots=True)
class EventTimeline:
    """One event of an app, from its arrival to what the app did."""

    title: str
    steps: Sequence[TimelineStep]


@dataclass(frozen=True, slots=True)
class AppStory:
    """One app's part of a story. ``older`` are the titles of further events."""

    app: str
    verdict: str
    tone: str
    markers: Sequence[str]
    events: Sequence[EventTimeline]
    older: Sequence[str]
    lost: bool


@dataclass(frozen=True, slots=True)
class StoryView:
    """``refresh`` is in how many seconds the page refreshes; 0: never."""

    sentence: str
    tone: str
    key: str
    refresh: int
    apps: Sequence[AppStory]


def story_view(story: SessionHistory) -> StoryView:
    """The part of the page that changes."""
    conclusion = story.conclusion
    refresh = _LATER if conclusion is Conclusion.NOTHING_KNOWN else _SOON
    return StoryView(
        sentence=SENTENCES[conclusion], tone=_TONES[conclusion], key=conclusion.value,
        refresh=0 if conclusion in _FINAL else refresh,
        apps=[app_story(story, app) for app in story.apps],
    )  # fmt: skip


def app_story(story: SessionHistory, app: AppHistory) -> AppStory:
    verdict, tone = _verdict(story, app)
    about = [each for each in app.events if each.covers or story.question.sid is None]
    return AppStory(
        app=app.app, verdict=verdict, tone=tone, lost=app.lost,
        markers=[
            f"{marker.kind}: logins up to"
            f" {'?' if marker.cutoff is None else moment(marker.cutoff)}"
            + (f", kept for {rounded_duration(marker.expires_in)}" if marker.expires_in else "")
            for marker in app.markers
        ],
        events=[_timeline(each) for each in about if each.proof is not None],
        older=[_title(each) for each in about if each.proof is None],
    )  # fmt: skip


def _verdict(story: SessionHistory, app: AppHistory) -> tuple[str, str]:
    if app.fault is not None:
        return f"{_VERDICT_UNREADABLE} ({app.fault})", "bad"
    at = moment(app.cutoff or 0)
    match app.state:
        case State.REVOKED if story.question.login_at is not None:
            return f"Dead: ended at {at}", _tone_of_dead(story, app)
        case State.REVOKED if story.refusals:
            # The marker does not cover the later token that ended nothing.
            return f"Dead: every login up to {at}; a newer token about it ended nothing", "wait"
        case State.REVOKED:
            return f"Dead: every login up to {at}", _tone_of_dead(story, app)
        case State.EXPIRED:
            return "Dead: older than max_session_age", "good"
        case State.ALIVE if app.markers:
            return "Alive: this login is later than every marker", "plain"
        case State.ALIVE if story.conclusion is Conclusion.NOTHING_KNOWN:
            return "Nothing is known here: no marker, no event", "plain"
        case State.ALIVE:
            return "Not ended here: no marker covers it", "plain"
        case _ if app.max_session_age is None:
            return "No receiver has served this app in this Redis.", "bad"
        case _:
            return "Unknown: a marker cannot be read, so the app answers 503", "bad"


def _tone_of_dead(story: SessionHistory, app: AppHistory) -> str:
    """Green only if the app has acted as well."""
    conclusion = app_conclusion(story.question, app)
    return {Conclusion.COMPLETE: "good", Conclusion.GIVEN_UP: "bad"}.get(conclusion, "wait")


def _title(delivered: DeliveredEvent) -> str:
    name = "Event" if delivered.event is None else ENDED[delivered.event.kind]
    return f"{name} · {moment(delivered.at)} · {delivered.id}"


def _timeline(delivered: DeliveredEvent) -> EventTimeline:
    event = delivered.event
    if event is None:
        steps = [TimelineStep("Written", "event of another release", "wait", delivered.at)]
        return EventTimeline(f"Event {delivered.id}", steps)
    verified = (
        "Signature and every rule"
        if event.source == _BY_TOKEN
        else "Requested by an administrator, or written by the receiver"
    )
    if event.client_ids:
        verified += f"; client {', '.join(event.client_ids)}"
    if event.jti is not None:
        verified += f"; jti {event.jti}"
    received = _RECEIVED.get(event.source, f"by the receiver itself, for {event.source}")
    delay = rounded_duration(max(0.0, delivered.at - event.received_at))
    steps = [
        TimelineStep("Received", received, "good", event.received_at),
        TimelineStep("Verified", verified, "good"),
        TimelineStep("Written", f"after {delay}", "good", delivered.at),
        _app_step(delivered),
    ]
    return EventTimeline(f"{ENDED[event.kind]} · Event {delivered.id}", steps)


def _app_step(delivered: DeliveredEvent) -> TimelineStep:
    """What the app did, or why it has not yet acted."""
    proof = delivered.proof
    if proof is None:
        return TimelineStep("App has acted", "unknown", "wait")
    text = PROOFS[proof.status]
    if proof.readers > proof.seen:
        text += behind(proof)
    elif proof.readers:
        text += f" ({proof.seen} of {proof.readers} replicas)"
    if proof.seconds is not None:
        text += f", after {rounded_duration(proof.seconds)}"
    for letter in delivered.dead_letters:
        tries = "" if letter.tries is None else f" after {letter.tries} tries"
        text += f"; listener {letter.listener} failing{tries} with {letter.error}"
    done = proof.status in _DONE
    return TimelineStep("App has acted" if done else "Not yet", text, "good" if done else "bad")
