"""What pages show, from what history tells. Pure.

A tone is how a thing is to be looked at: ``good``, ``bad``, ``wait`` or ``plain``.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from app import verdict
from app.backchannel.remedies import MENDING
from app.config.issuers import IssuerSettings
from app.console.texts import TEXTS
from app.errors import Reason
from app.formatting import moment, rounded_duration
from app.history import DeliveredEvent, RefusalEntry
from app.history.audit_stream import WAITS
from app.verdict import CheckVerdict

STORY = "/console/story"
REFUSALS = "/console/refusals"

# As `app.telemetry.sanitize` describes what it leaves out.
_NO_NUMBER = re.compile(r"(string|array|object) of \d+|boolean")
_PARTS = ("{…}", "[…]")


@dataclass(frozen=True, slots=True)
class PageRow:
    """One line of the feed."""

    at: float
    app: str
    iss: str
    whom: str
    what: str
    tone: str
    href: str | None
    id: str
    """Of the entry in its stream."""


def of_told(told: DeliveredEvent) -> PageRow:
    event = told.event
    if event is None:
        return PageRow(told.at, told.app, "", "", TEXTS["unreadable"], "wait", None, told.id)
    return PageRow(
        at=told.at, app=told.app, iss=event.iss, whom=event.sid or event.sub or TEXTS["everybody"],
        what=TEXTS[f"ended_{event.kind.value}"], tone="good",
        href=story_href(event.iss, event.sid, event.sub), id=told.id,
    )  # fmt: skip


def of_refusal(refusal: RefusalEntry) -> PageRow:
    word, tone = (TEXTS["waits"], "wait") if refusal.waits else (TEXTS["refused"], "bad")
    return PageRow(
        at=refusal.at or 0.0, app="", iss=refusal.iss or "", whom=TEXTS["what_to_do"],
        what=f"{word}: {refusal.reason}", tone=tone, href=refusal_href(refusal),
        id=refusal.id,
    )  # fmt: skip


def refusal_href(refusal: RefusalEntry) -> str:
    """The page of this one alone."""
    return f"{REFUSALS}?{urlencode({'id': refusal.id})}"


def story_href(iss: str, sid: str | None, sub: str | None, login_at: int | None = None) -> str:
    """``everybody`` stands for the ids where there are none: an empty form must not mean all."""
    everybody = "1" if sid is None and sub is None else None
    members = {
        "iss": iss, "sid": sid, "sub": sub, "login_at": login_at, "everybody": everybody,
    }  # fmt: skip
    known = {name: value for name, value in members.items() if value is not None}
    return f"{STORY}?{urlencode(known)}"


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal, with what helps."""

    refusal: RefusalEntry
    there: Sequence[tuple[str, str]]
    configured: Sequence[tuple[str, str]]
    sentence: str
    mend: str


def refused(refusal: RefusalEntry, issuers: Mapping[str, IssuerSettings]) -> Refused:
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
            ("leeway", rounded_duration(issuer.leeway)),
            ("max_token_age", rounded_duration(issuer.max_token_age)),
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


def _compared(refusal: RefusalEntry, issuer: IssuerSettings | None) -> str:
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
    if reason == WAITS:
        return TEXTS["mend_keys"]
    try:
        return MENDING[Reason(reason)]
    except ValueError:
        return ""


_WORST = {CheckVerdict.WRONG: "bad", CheckVerdict.WARNING: "wait"}


def trouble(rows: Iterable[verdict.Row]) -> list[tuple[str, verdict.Row]]:
    """What is wrong or needs a look, with its tone: the worst first."""
    found = [(_WORST[one.verdict], one) for one in rows if one.verdict in _WORST]
    return sorted(found, key=lambda one: one[0])
