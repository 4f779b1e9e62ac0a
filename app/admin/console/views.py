"""What pages show, from what history tells. Pure.

A tone is how a thing is to be looked at: ``good``, ``bad``, ``wait`` or ``plain``.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from app.errors import Reason
from app.history import AppStory, Question, Refusal, State, Told
from app.mending import MENDING
from app.settings import IssuerSettings
from app.words import length, moment
from backchannel_logout import Standing

from .texts import PROOFS, SOURCES, TEXTS

_DONE = (Standing.TORN_DOWN, Standing.SEEN, Standing.ASKS)

STORY = "/console/story"

# As `app.telemetry.shown` describes what it leaves out.
_NO_NUMBER = re.compile(r"(string|array|object) of \d+|boolean")
_PARTS = ("{…}", "[…]")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the feed."""

    at: float
    app: str
    iss: str
    whom: str
    what: str
    tone: str
    href: str | None


def of_told(told: Told) -> Row:
    event = told.event
    if event is None:
        return Row(told.at, told.app, "", "", TEXTS["unreadable"], "wait", None)
    return Row(
        at=told.at, app=told.app, iss=event.iss, whom=event.sid or event.sub or TEXTS["everybody"],
        what=TEXTS[f"ended_{event.kind.value}"], tone="good",
        href=story_href(event.iss, event.sid, event.sub),
    )  # fmt: skip


def of_refusal(refusal: Refusal) -> Row:
    return Row(
        at=refusal.at or 0.0, app="", iss=refusal.iss or "", whom=TEXTS["what_to_do"],
        what=f"{TEXTS['refused']}: {refusal.reason}", tone="bad",
        href=f"/console/refusals?{urlencode({'reason': refusal.reason})}",
    )  # fmt: skip


def story_href(iss: str, sid: str | None, sub: str | None, login_at: int | None = None) -> str:
    members = {"iss": iss, "sid": sid, "sub": sub, "login_at": login_at}
    known = {name: value for name, value in members.items() if value is not None}
    return f"{STORY}?{urlencode(known)}"


@dataclass(frozen=True, slots=True)
class Step:
    """A line of a timeline."""

    name: str
    said: str
    tone: str
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Chapter:
    """One event of an app, from its arrival to what the app did."""

    title: str
    steps: Sequence[Step]
    complete: bool


@dataclass(frozen=True, slots=True)
class Tale:
    """One app's part of a story."""

    app: str
    verdict: str
    tone: str
    markers: Sequence[str] = ()
    chapters: Sequence[Chapter] = field(default=())
    lost: bool = False
    complete: bool = True


def tale(question: Question, story: AppStory) -> Tale:
    verdict, tone = _verdict(question, story)
    chapters = [_chapter(one) for one in story.events if one.covers or question.sid is None]
    first = story.cause or (story.events[0] if story.events else None)
    waited_for = [
        chapter
        for chapter, told in zip(
            chapters, [o for o in story.events if o.covers or question.sid is None], strict=True
        )
        if first is not None and told.id == first.id
    ]
    return Tale(
        app=story.app, verdict=verdict, tone=tone, lost=story.lost,
        markers=[
            f"{one.kind}: {TEXTS['up_to']}"
            f" {'?' if one.cutoff is None else moment(one.cutoff)}"
            + (f", {TEXTS['kept_for']} {length(one.expires_in)}" if one.expires_in else "")
            for one in story.markers
        ],
        chapters=chapters, complete=all(one.complete for one in waited_for),
    )  # fmt: skip


def _verdict(question: Question, story: AppStory) -> tuple[str, str]:
    if story.fault is not None:
        return f"{TEXTS['fault']} ({story.fault})", "bad"
    match story.state:
        case State.REVOKED if question.login_at is not None:
            return TEXTS["dead"].format(at=moment(story.cutoff or 0)), "good"
        case State.REVOKED:
            return TEXTS["dead_up_to"].format(at=moment(story.cutoff or 0)), "good"
        case State.EXPIRED:
            return TEXTS["dead_by_age"], "good"
        case State.ALIVE:
            return TEXTS["alive"], "plain"
        case _ if story.max_session_age is None:
            return TEXTS["never_served"], "bad"
        case _:
            return TEXTS["no_verdict"], "bad"


def _chapter(told: Told) -> Chapter:
    event = told.event
    title = f"{TEXTS['event']} {told.id}"
    if event is None:
        return Chapter(title, [Step(TEXTS["written"], TEXTS["unknown"], "wait", told.at)], True)
    token = event.source == "backchannel-logout"
    by_us = TEXTS["by_receiver"].format(provider=event.source)
    source = SOURCES.get(event.source, by_us)
    proof_step, complete = _proof(told)
    steps = [
        Step(TEXTS["received"], source, "good", event.received_at),
        Step(TEXTS["verified"], TEXTS["verified_said" if token else "by_admin"], "good"),
        Step(
            TEXTS["written"],
            f"{TEXTS['after']} {length(max(0.0, told.at - event.received_at))}",
            "good", told.at,
        ),
        proof_step,
    ]  # fmt: skip
    return Chapter(f"{TEXTS['ended_' + event.kind.value]} · {title}", steps, complete)


def _proof(told: Told) -> tuple[Step, bool]:
    """What the app did; "not yet" with its reason. Complete: nothing more is to come."""
    proof = told.proof
    if proof is None:
        return Step(TEXTS["acted"], TEXTS["unknown"], "wait"), True
    done = proof.standing in _DONE
    said = PROOFS[proof.standing]
    if behind := proof.readers - proof.seen:
        said += TEXTS["replicas_behind"].format(behind=behind, all=proof.readers)
    elif proof.readers:
        said += TEXTS["replicas_done"].format(done=proof.seen, all=proof.readers)
    if proof.seconds is not None:
        said += f", {TEXTS['after']} {length(proof.seconds)}"
    for letter in told.dead_letters:
        name = "failing" if letter.tries is None else "failing_after"
        said += TEXTS[name].format(listener=letter.listener, tries=letter.tries, error=letter.error)
    if done:
        return Step(TEXTS["acted"], said, "good"), True
    over = proof.standing is Standing.FAILED
    return Step(TEXTS["not_yet"], said, "bad"), over


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal, with what helps."""

    refusal: Refusal
    there: Sequence[tuple[str, str]]
    configured: Sequence[tuple[str, str]]
    sentence: str
    mend: str


def refused(refusal: Refusal, issuers: Mapping[str, IssuerSettings]) -> Refused:
    issuer = issuers.get(refusal.iss or "")
    there: list[tuple[str, str]] = []
    for name in ("iss", "aud", "alg", "typ", "kid", "iat", "exp"):
        value = getattr(refusal, name)
        if value is not None:
            there.append((name, _shown(name, value)))
    configured: list[tuple[str, str]] = []
    if issuer is None:
        names = ", ".join(sorted({one.issuer for one in issuers.values()}))
        configured.append(("issuer", TEXTS["unknown_issuer"].format(names=names)))
    else:
        clients = ", ".join(one.client_id for one in issuer.clients)
        configured = [
            ("client_id", clients),
            ("algorithms", ", ".join(issuer.algorithms)),
            ("leeway", length(issuer.leeway)),
            ("max_token_age", length(issuer.max_token_age)),
        ]
    return Refused(refusal, there, configured, _compared(refusal, issuer), _mend(refusal.reason))


def _shown(name: str, value: str) -> str:
    if name == "aud":
        return ", ".join(_audiences(value)) or value
    if name in ("iat", "exp"):
        try:
            return f"{value} ({moment(float(value))})"
        except ValueError:
            return _not_shown(value) if _NO_NUMBER.fullmatch(value) else value
    return _parts(value)


def _parts(value: str) -> str:
    return _not_shown(value) if value in _PARTS else value


def _not_shown(described: str) -> str:
    """It must not be taken for what was there."""
    return TEXTS["not_shown"].format(what=described)


def _audiences(value: str) -> list[str]:
    try:
        found = json.loads(value)
    except ValueError:
        return [value]
    return [_parts(str(one)) for one in (found if isinstance(found, list) else [found])]


def _compared(refusal: Refusal, issuer: IssuerSettings | None) -> str:
    """What was there beside what is configured, in a sentence; else the rule's own."""
    if issuer is not None and refusal.reason == Reason.AUD_UNKNOWN and refusal.aud:
        there = ", ".join(_audiences(refusal.aud))
        known = ", ".join(one.client_id for one in issuer.clients)
        return TEXTS["there_and_known"].format(name="aud", there=there, known=known)
    if issuer is not None and refusal.reason == Reason.ALG and refusal.alg:
        known = ", ".join(issuer.algorithms)
        return TEXTS["there_and_known"].format(
            name="alg", there=_shown("alg", refusal.alg), known=known
        )
    if refusal.reason == Reason.ISS_UNKNOWN and refusal.iss:
        return TEXTS["iss_not_known"].format(iss=refusal.iss)
    return refusal.rule or refusal.reason


def _mend(reason: str) -> str:
    try:
        return MENDING[Reason(reason)]
    except ValueError:
        return ""
