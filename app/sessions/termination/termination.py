"""The record of one termination: a session that is to end, or all sessions of a user. Pure.

The provider ends all sessions of a user with one call, which also ends a session that began after
they were listed. So the user has a record, beside one for each session.

    begun        recorded in Redis; from now on some process follows it to its end
    asked        the provider has accepted the request
    gone         the provider itself reports that the session no longer exists
    received     a logout token has arrived for some of the apps
    written      marker and event are in Redis for all apps
    confirmed    gone and written; each app's proof says what the app did
    proven       every app has acted: see `backchannel_logout.AppStatus`

    unconfirmed  given up: the provider has not reported that the session is gone

A logout token can arrive before the provider reports that the session is gone, so each phase has
its own time.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from backchannel_logout.contract.keys import digest

LOGOUT_TOKEN = "backchannel-logout"
"""The ``source`` of an event that a logout token caused."""


class Phase(StrEnum):
    """How far a termination is; see above."""

    BEGUN = "begun"
    ASKED = "asked"
    GONE = "gone"
    RECEIVED = "received"
    WRITTEN = "written"
    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppDelivery:
    """The event in an app's stream that ends the session. ``at``: when its cause arrived."""

    event: str
    source: str
    cutoff: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What delays it: ``what`` is a `FaultKind`, ``still_there``, or an outage on our side."""

    what: str
    detail: str
    at: float
    tries: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """One session of an issuer, or all of a user. Times are epoch seconds; None: not yet."""

    issuer: str
    session: str
    """Empty: all sessions of the user."""
    user: str
    provider: str
    """The provider's kind, and the ``source`` of the revocations written for it."""
    apps: tuple[str, ...]
    awaits_token: bool
    """Whether the provider is expected to send logout tokens to these apps."""
    positions: Mapping[str, str]
    """The newest id of each app's stream at the beginning. Later entries are evidence."""
    created_at: float | None
    """When the session began. The provider may give its id to another session later."""
    began_at: float
    used_at: float | None = None
    """The latest time of the session by the provider's clock: logins of it can be as late."""
    refresh_tokens: bool = False
    user_termination: str | None = None
    """The id of the user's record, when its call ends this session as well."""
    who: str = "-"
    why: str | None = None
    asked_at: float | None = None
    gone_at: float | None = None
    ended_by: float | None = None
    """Known with ``gone_at``: a later login never belonged to this session."""
    hindrance: str | None = None
    """Why a logout token may have been missed: a key of `report.HINDRANCES`."""
    over_at: float | None = None
    outcome: Phase | None = None
    """`CONFIRMED` or `UNCONFIRMED`, once it is over."""
    problem: Problem | None = None
    deliveries: Mapping[str, AppDelivery] = field(default_factory=dict)

    @property
    def id(self) -> str:
        if self.of_user:
            # One id per request: an earlier one does not cover sessions that began after it.
            return digest(self.issuer, f"{self.began_at!r}\n{self.user}")
        return termination_id(self.issuer, self.session)

    @property
    def of_user(self) -> bool:
        """Whether all sessions of the user are to end."""
        return not self.session

    @property
    def pending_apps(self) -> tuple[str, ...]:
        """The apps without an event for it."""
        return tuple(app for app in self.apps if app not in self.deliveries)

    @property
    def written_at(self) -> float | None:
        """When the last app got its event."""
        if self.pending_apps:
            return None
        return max((delivery.at for delivery in self.deliveries.values()), default=self.gone_at)

    @property
    def received_at(self) -> float | None:
        """When the first logout token for it arrived."""
        by_token = [one.at for one in self.deliveries.values() if one.source == LOGOUT_TOKEN]
        return min(by_token, default=None)

    @property
    def apps_written_by_us(self) -> tuple[str, ...]:
        """The apps whose event the receiver wrote itself, because no token arrived."""
        delivered = [app for app in self.apps if app in self.deliveries]
        return tuple(app for app in delivered if self.deliveries[app].source == self.provider)

    @property
    def phase(self) -> Phase:
        if self.outcome is not None:
            return self.outcome
        if self.gone_at is not None:
            if not self.pending_apps:
                return Phase.CONFIRMED
            return Phase.RECEIVED if self.deliveries else Phase.GONE
        if self.deliveries:
            return Phase.RECEIVED if self.pending_apps else Phase.WRITTEN
        return Phase.BEGUN if self.asked_at is None else Phase.ASKED

    def to_fields(self) -> dict[str, str]:
        """The Redis hash at the beginning; the other fields are added as they become known."""
        fields = {
            # A release without user records cannot read version 2: see `TerminationRecords`.
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
        if self.user_termination is not None:
            fields["user_ending"] = self.user_termination
        if self.why is not None:
            fields["why"] = self.why
        return fields

    @classmethod
    def from_fields(cls, fields: Mapping[bytes, bytes]) -> Self | None:
        """Read the hash; None when this release does not understand it."""
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
                user_termination=texts.get("user_ending"),
                who=texts["who"],
                why=texts.get("why"),
                hindrance=texts.get("hindered"),
                outcome=Phase(texts["outcome"]) if "outcome" in texts else None,
                problem=Problem(**json.loads(texts["trouble"])) if "trouble" in texts else None,
                deliveries={
                    name.removeprefix(DELIVERY_PREFIX): AppDelivery(**json.loads(value))
                    for name, value in texts.items()
                    if name.startswith(DELIVERY_PREFIX)
                },
                **{name: float(texts[name]) for name in _OPTIONAL_TIMES if name in texts},
            )
        except (ValueError, TypeError, KeyError):
            return None


DELIVERY_PREFIX = "told:"
"""The prefix of the hash fields that hold an `AppDelivery`; the app's name follows."""

_OPTIONAL_TIMES = ("asked_at", "gone_at", "used_at", "ended_by", "over_at")


def termination_id(issuer: str, session: str) -> str:
    """One id per session: ending it twice, or from two processes at once, is one termination."""
    return digest(issuer, session)
