"""Rows of the feed, and refusals beside the configuration, with a remedy. Pure.

A tone is the color of a row: ``good``, ``bad``, ``wait`` or ``plain``.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from app.backchannel.remedies import MENDING
from app.config.issuers import IssuerSettings
from app.console.texts import ENDED, FEED
from app.errors import Reason
from app.formatting import moment, rounded_duration
from app.history import DeliveredEvent, RefusalEntry
from app.history.audit_stream import WAITS

STORY = "/console/story"
REFUSALS = "/console/refusals"

# How `app.telemetry.sanitize` describes what it omits.
_NOT_A_NUMBER = re.compile(r"(string|array|object) of \d+|boolean")
_OMITTED = ("{…}", "[…]")

_KEYS_REMEDY = (
    "It was answered with 503. Check the issuer's keys on the page Issuers. If they arrive within"
    " ten minutes, the token is applied without being sent again."
)


@dataclass(frozen=True, slots=True)
class FeedRow:
    at: float
    app: str
    iss: str
    subject: str
    what: str
    tone: str
    href: str | None
    id: str
    """The id of its stream entry."""


def event_row(delivered: DeliveredEvent) -> FeedRow:
    event, at, app, entry_id = delivered.event, delivered.at, delivered.app, delivered.id
    if event is None:
        return FeedRow(at, app, "", "", FEED["unreadable"], "wait", None, entry_id)
    return FeedRow(
        at=at, app=app, iss=event.iss, subject=event.sid or event.sub or FEED["everybody"],
        what=ENDED[event.kind], tone="good", href=story_address(event.iss, event.sid, event.sub),
        id=entry_id,
    )  # fmt: skip


def refusal_row(refusal: RefusalEntry) -> FeedRow:
    outcome, tone = (FEED["waits"], "wait") if refusal.waits else (FEED["refused"], "bad")
    return FeedRow(
        at=refusal.at or 0.0, app="", iss=refusal.iss or "", subject=FEED["what_to_do"],
        what=f"{outcome}: {refusal.reason}", tone=tone,
        href=f"{REFUSALS}?{urlencode({'id': refusal.id})}", id=refusal.id,
    )  # fmt: skip


def story_address(iss: str, sid: str | None, sub: str | None, login_at: int | None = None) -> str:
    """Without ids it carries ``everybody``: an empty form must not mean all."""
    everybody = "1" if sid is None and sub is None else None
    members = {
        "iss": iss, "sid": sid, "sub": sub, "login_at": login_at, "everybody": everybody,
    }  # fmt: skip
    known = {name: value for name, value in members.items() if value is not None}
    return f"{STORY}?{urlencode(known)}"


@dataclass(frozen=True, slots=True)
class RefusalView:
    """A refusal: what the token contained, what is configured, and how to fix it."""

    refusal: RefusalEntry
    contained: Sequence[tuple[str, str]]
    configured: Sequence[tuple[str, str]]
    sentence: str
    remedy: str


def refusal_view(refusal: RefusalEntry, issuers: Mapping[str, IssuerSettings]) -> RefusalView:
    issuer = issuers.get(refusal.iss or "")
    contained = [
        (name, _readable(name, value))
        for name in ("iss", "aud", "alg", "typ", "kid", "iat", "exp")
        if (value := getattr(refusal, name)) is not None
    ]
    if issuer is None:
        names = ", ".join(sorted({each.issuer for each in issuers.values()}))
        configured = [("issuer", f"no issuer of this name; configured: {names}")]
    else:
        configured = [
            ("client_id", ", ".join(client.client_id for client in issuer.clients)),
            ("algorithms", ", ".join(issuer.algorithms)),
            ("leeway", rounded_duration(issuer.leeway)),
            ("max_token_age", rounded_duration(issuer.max_token_age)),
        ]
    sentence, remedy = _sentence(refusal, issuer), _remedy(refusal.reason)
    return RefusalView(refusal, contained, configured, sentence, remedy)


def _readable(name: str, value: str) -> str:
    if name == "aud":
        return ", ".join(_audiences(value)) or value
    if name in ("iat", "exp"):
        try:
            return f"{value} ({moment(float(value))})"
        except ValueError:
            return _description(value) if _NOT_A_NUMBER.fullmatch(value) else value
    return _unless_omitted(value)


def _unless_omitted(value: str) -> str:
    return _description(value) if value in _OMITTED else value


def _description(text: str) -> str:
    """Must not be mistaken for the value itself."""
    return f"({text}, not shown)"


def _audiences(value: str) -> list[str]:
    try:
        parsed = json.loads(value)
    except ValueError:
        return [value]
    return [
        _unless_omitted(str(each)) for each in (parsed if isinstance(parsed, list) else [parsed])
    ]


def _sentence(refusal: RefusalEntry, issuer: IssuerSettings | None) -> str:
    """The token's value beside the configured one; otherwise the rule's own sentence."""
    if issuer is not None and refusal.reason == Reason.AUD_UNKNOWN and refusal.aud:
        known = ", ".join(client.client_id for client in issuer.clients)
        return f"aud is {', '.join(_audiences(refusal.aud))}; configured: {known}"
    if issuer is not None and refusal.reason == Reason.ALG and refusal.alg:
        known = ", ".join(issuer.algorithms)
        return f"alg is {_readable('alg', refusal.alg)}; configured: {known}"
    if refusal.reason == Reason.ISS_UNKNOWN and refusal.iss:
        return f"iss is {refusal.iss}; no issuer of this name is configured"
    return refusal.rule or refusal.reason


def _remedy(reason: str) -> str:
    if reason == WAITS:
        return _KEYS_REMEDY
    try:
        return MENDING[Reason(reason)]
    except ValueError:
        return ""
