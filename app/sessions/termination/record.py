"""The end of one session, from the request to the last app that has let go. Pure: a record.

All sessions of a user have such a record of their own, beside one for each session: the provider
ends them with one call, which also ends a session that began after they were listed.

    begun      noted in Redis: from here on it is followed to its end, whoever dies meanwhile
    asked      the provider has taken the request
    gone       the provider itself says that there is no such session any more
    received   a logout token has come for some of the apps concerned
    written    marker and event are in Redis for all of them
    confirmed  gone and written. Apps that ask will find it; each app's proof says what they did
    proven     every app has acted: see `backchannel_logout.Standing`

    unconfirmed  given up: the provider has not said that the session is gone. Nothing is claimed

A token may come before the provider says that the session is gone; each step has its own time.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from backchannel_logout.contract.keys import digest

LOGOUT_TOKEN = "backchannel-logout"
"""The ``source`` of an event that a logout token made."""


class Phase(StrEnum):
    """How far an ending is; see above."""

    BEGUN = "begun"
    ASKED = "asked"
    GONE = "gone"
    RECEIVED = "received"
    WRITTEN = "written"
    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppDelivery:
    """How an app was told: the event in its stream. ``at`` is when we received what it says."""

    event: str
    source: str
    cutoff: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is in the way: ``what`` is a `FaultKind`, ``still_there`` or an outage of our side."""

    what: str
    detail: str
    at: float
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """One session of one issuer that is to end, or all of a user. Times are epoch seconds; None:
    not yet."""

    issuer: str
    session: str
    """Empty: all sessions of the user."""
    user: str
    provider: str
    """The provider's kind; the ``source`` of what we write for it."""
    apps: tuple[str, ...]
    """The relying apps concerned."""
    awaits_token: bool
    """Whether the provider is expected to send logout tokens to them."""
    positions: Mapping[str, str]
    """The newest id of each app's stream at the beginning: what comes after it is evidence."""
    created_at: float | None
    """Of the session, as the provider told: its id may be given to another one later."""
    began_at: float
    used_at: float | None = None
    """The newest moment that the provider told of the session, by its own clock: what is to end may
    have logged in at any time up to then."""
    refresh_tokens: bool = False
    user_ending: str | None = None
    """The id of the record of all sessions of the user, whose call ends this session as well."""
    who: str = "-"
    why: str | None = None
    asked_at: float | None = None
    gone_at: float | None = None
    ended_by: float | None = None
    """Known with ``gone_at``: what logged in later was never of this session."""
    hindered: str | None = None
    """Why a logout token may have come that we could not take: a key of `HINDRANCES`."""
    over_at: float | None = None
    outcome: Phase | None = None
    """`CONFIRMED` or `UNCONFIRMED`, when it is over."""
    trouble: Problem | None = None
    told: Mapping[str, AppDelivery] = field(default_factory=dict)

    @property
    def id(self) -> str:
        if self.of_user:
            return user_termination_id(self.issuer, self.user, self.began_at)
        return termination_id(self.issuer, self.session)

    @property
    def of_user(self) -> bool:
        """Whether it is all sessions of the user that are to end."""
        return not self.session

    @property
    def untold(self) -> tuple[str, ...]:
        """The apps that have no event for it yet."""
        return tuple(app for app in self.apps if app not in self.told)

    @property
    def written_at(self) -> float | None:
        """When the last app concerned was told."""
        if self.untold:
            return None
        return max((one.at for one in self.told.values()), default=self.gone_at)

    @property
    def received_at(self) -> float | None:
        """When the first logout token for it came."""
        tokens = [one.at for one in self.told.values() if one.source == LOGOUT_TOKEN]
        return min(tokens, default=None)

    @property
    def told_by_us(self) -> tuple[str, ...]:
        """The apps for which we wrote it, for no token came."""
        return tuple(app for app in self.apps if app in self.told and self._is_ours(app))

    def _is_ours(self, app: str) -> bool:
        return self.told[app].source == self.provider

    @property
    def step(self) -> Phase:
        """How far it is."""
        if self.outcome is not None:
            return self.outcome
        if self.gone_at is not None:
            if not self.untold:
                return Phase.CONFIRMED
            return Phase.RECEIVED if self.told else Phase.GONE
        if self.told:
            return Phase.RECEIVED if self.untold else Phase.WRITTEN
        return Phase.BEGUN if self.asked_at is None else Phase.ASKED

    # -- as a Redis hash ---------------------------------------------------------------------

    def to_fields(self) -> dict[str, str]:
        """What is known at its beginning, as fields of the hash."""
        fields = {
            # A release that does not know the second kind cannot read it: see `EndingNotes`.
            "v": "2" if self.of_user else "1",
            "issuer": self.issuer,
            "session": self.session,
            "user": self.user,
            "provider": self.provider,
            "apps": json.dumps(self.apps),
            "awaits_token": json.dumps(self.awaits_token),
            "positions": json.dumps(dict(self.positions)),
            "created_at": json.dumps(self.created_at),
            "began_at": repr(self.began_at),
            "refresh_tokens": json.dumps(self.refresh_tokens),
            "who": self.who,
        }
        if self.used_at is not None:
            fields["used_at"] = repr(self.used_at)
        if self.user_ending is not None:
            fields["user_ending"] = self.user_ending
        if self.why is not None:
            fields["why"] = self.why
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Self | None:
        """Read the hash; None for one that this release does not understand."""
        texts = {name.decode(): value.decode() for name, value in fields.items()}
        try:
            if texts.get("v") != ("1" if texts["session"] else "2"):
                return None
            return cls(
                issuer=texts["issuer"],
                session=texts["session"],
                user=texts["user"],
                provider=texts["provider"],
                apps=tuple(json.loads(texts["apps"])),
                awaits_token=json.loads(texts["awaits_token"]),
                positions=json.loads(texts["positions"]),
                created_at=json.loads(texts["created_at"]),
                began_at=float(texts["began_at"]),
                refresh_tokens=json.loads(texts["refresh_tokens"]),
                user_ending=texts.get("user_ending"),
                who=texts["who"],
                why=texts.get("why"),
                asked_at=_time(texts, "asked_at"),
                gone_at=_time(texts, "gone_at"),
                used_at=_time(texts, "used_at"),
                ended_by=_time(texts, "ended_by"),
                hindered=texts.get("hindered"),
                over_at=_time(texts, "over_at"),
                outcome=Phase(texts["outcome"]) if "outcome" in texts else None,
                trouble=Problem(**json.loads(texts["trouble"])) if "trouble" in texts else None,
                told={
                    name.removeprefix(DELIVERY_PREFIX): AppDelivery(**json.loads(value))
                    for name, value in texts.items()
                    if name.startswith(DELIVERY_PREFIX)
                },
            )
        except (ValueError, TypeError, KeyError):
            return None


DELIVERY_PREFIX = "told:"
"""What a field of the hash begins with that says how an app was told; its name follows."""


def termination_id(issuer: str, session: str) -> str:
    """One for each session, so that whoever ends it twice, or two at once, means the same one."""
    return digest(issuer, session)


def user_termination_id(issuer: str, user: str, began_at: float) -> str:
    """One for each request: a session that began after an earlier request was not part of it."""
    return digest(issuer, f"{began_at!r}\n{user}")


def with_delivery(ending: Termination, app: str, telling: AppDelivery) -> Termination:
    """The ending, of which one more app knows."""
    return replace(ending, told={**ending.told, app: telling})


def _time(texts: Mapping[str, str], name: str) -> float | None:
    return float(texts[name]) if name in texts else None


# -- why no token came ----------------------------------------------------------------------

HINDRANCES = {
    "started": "was started only after the provider had been asked",
    "redis": "did not reach Redis for some of that time",
    "unavailable": "answered logout tokens with 503 in that time",
}
"""What may have kept us from taking a token, as far as the process knows that followed the end."""

_LIKELY_CAUSES = {
    "auth0": "the session-revoked initiator is off for this application (set"
    " oidc_logout.backchannel_logout_initiators to mode all, or add session-revoked), or the"
    " application has no backchannel_logout_urls",
    "keycloak": "the client has no backchannel logout URL, or front channel logout is on for it",
}


def explanation(ending: Termination, confirm_within: float) -> str | None:
    """A sentence for people where not everything went its normal way; None where it did."""
    if ending.step is Phase.UNCONFIRMED:
        what = ending.trouble.what if ending.trouble is not None else "unknown"
        if ending.of_user:
            return (
                f"The provider has not confirmed that all sessions of the user are gone ({what})."
                " To end them in the apps all the same, write a revocation."
            )
        return (
            f"The provider has not confirmed that the session is gone ({what})."
            " To end it in the apps all the same, write a revocation."
        )
    if ending.of_user:
        return None  # the receiver always writes this one itself
    if not (ours := ending.told_by_us):
        return None
    if not ending.awaits_token:
        return f"{ending.provider} sends no logout token for it; the receiver told the apps itself."
    what = (
        f"No logout token came within {confirm_within:g} s for {', '.join(ours)}; the receiver"
        " wrote the revocation itself."
    )
    if (hindrance := HINDRANCES.get(ending.hindered or "")) is not None:
        return f"{what} It {hindrance}, so the provider may have sent one that was not taken."
    cause = _LIKELY_CAUSES.get(ending.provider, "back-channel logout is off for this client")
    return f"{what} The likely cause: {cause}."


def as_json(ending: Termination, confirm_within: float) -> dict[str, Any]:
    """The record as JSON values, without the apps' proofs."""
    return {
        "issuer": ending.issuer,
        "session": ending.session or None,
        "user": ending.user,
        "provider": ending.provider,
        "state": ending.step.value,
        "over": ending.over_at is not None,
        "refresh_tokens": ending.refresh_tokens,
        "began_at": ending.began_at,
        "asked_at": ending.asked_at,
        "gone_at": ending.gone_at,
        "received_at": ending.received_at,
        "written_at": ending.written_at,
        "over_at": ending.over_at,
        "trouble": None
        if ending.trouble is None
        else {
            "what": ending.trouble.what,
            "detail": ending.trouble.detail,
            "at": ending.trouble.at,
            "tries": ending.trouble.tries,
        },
        "explanation": explanation(ending, confirm_within),
    }
