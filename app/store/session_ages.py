"""Which ``max_session_age`` is in force for an app, where receivers have different ones. Pure.

The largest that a receiver has written within a day: with a smaller one, markers would expire
before the sessions that they end. The script of a logout keeps markers for as long as ``meta``
says.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from app.log import new_log

log = new_log(__name__)

_SECONDS = 86400

# Two visits of another receiver.
_ALIVE_SECONDS = 300


_UNKNOWN = "?"


class Conflict(NamedTuple):
    """Another receiver serves the app with a larger ``max_session_age``, in seconds."""

    own: int
    in_force: int
    receiver: str
    """Its host and process."""


class Raise(NamedTuple):
    """An app's markers live as long as sessions of the age ``old``, and must for ``new``."""

    old: int
    new: int


class _Stamp(NamedTuple):
    age: int
    at: int
    """When a receiver wrote it last, in epoch seconds."""
    receiver: str


class SessionAges:
    """``own`` maps each app to this receiver's ``max_session_age``; ``receiver`` names it.

    A larger one that nobody has written after ``began`` (epoch seconds) is one that was lowered.
    """

    def __init__(
        self,
        own: Mapping[str, int],
        receiver: str,
        clock: Callable[[], float] = time.time,
        began: float | None = None,
    ) -> None:
        self._own = own
        self._receiver = receiver
        self._clock = clock
        self._began = clock() if began is None else began
        self._extended: set[str] = set()
        self.to_extend: dict[str, Raise] = {}
        """Apps whose markers must live longer."""
        self.conflicts: dict[str, Conflict] = {}

    def in_force(self, app: str, meta: Mapping[bytes, bytes], stamps: Any) -> int:
        """The largest age. Our own, if larger, only once the markers there are live as long."""
        own, others = self._own[app], self._stamps(meta, stamps)
        self._note_conflict(app, others)
        unfinished = _number(meta.get(b"extend_from"))
        largest = max((stamp.age for stamp in others), default=None)
        if largest is None:
            return own
        if own > largest and app not in self._extended:
            self.to_extend[app] = Raise(largest, own)
            return largest
        if unfinished is not None:
            self.to_extend[app] = Raise(unfinished, max(own, largest))
        else:
            self.to_extend.pop(app, None)
        return max(own, largest)

    def extended(self, app: str) -> bool:
        """The markers of the app have been extended. True when our own age now comes in force:
        those that other receivers write meanwhile are still to be extended."""
        ages = self.to_extend.pop(app)
        first = ages.new == self._own[app] and app not in self._extended
        self._extended.add(app)
        return first

    def forget(self, app: str) -> None:
        """The app is no longer served."""
        self.to_extend.pop(app, None)
        self.conflicts.pop(app, None)
        self._extended.discard(app)

    def stamped(self, app: str, meta: Mapping[bytes, bytes], stamps: Any) -> dict[str, list[Any]]:
        """What to write: by age, when a receiver wrote it last, and which one."""
        now = int(self._clock())
        found = {
            str(it.age): [it.at, it.receiver]
            for it in self._stamps(meta, stamps)
            if it.receiver != _UNKNOWN or it.age > self._own[app]
        }
        if self.in_force(app, meta, stamps) >= self._own[app]:
            found[str(self._own[app])] = [now, self._receiver]
        return found

    def _stamps(self, meta: Mapping[bytes, bytes], stamps: Any) -> list[_Stamp]:
        """The ages that were written within a day. The one in ``meta`` may be of a release that
        does not say when."""
        now = int(self._clock())
        found = []
        for age, value in (stamps if isinstance(stamps, dict) else {}).items():
            match value:
                case [int(at), str(receiver)] if age.isdecimal() and at > now - _SECONDS:
                    found.append(_Stamp(int(age), at, receiver))
        written = _number(meta.get(b"max_session_age"))
        if written is not None and not any(stamp.age == written for stamp in found):
            known = stamps is not None and str(written) in stamps
            if not known:
                found.append(_Stamp(written, now, _UNKNOWN))
        return found

    def _note_conflict(self, app: str, stamps: list[_Stamp]) -> None:
        """A larger age that is still being renewed is that of another receiver."""
        now = self._clock()
        larger = [
            stamp
            for stamp in stamps
            if stamp.age > self._own[app]
            and stamp.at > max(self._began, now - _ALIVE_SECONDS)
            and stamp.receiver not in (_UNKNOWN, self._receiver)
        ]
        if not larger:
            self.conflicts.pop(app, None)
            return
        largest = max(larger)
        conflict = Conflict(self._own[app], largest.age, largest.receiver)
        if self.conflicts.get(app) != conflict:
            log.warning("meta", outcome="max_session_age_differs", app=app, **conflict._asdict())
        self.conflicts[app] = conflict


def _number(raw: bytes | None) -> int | None:
    return int(raw) if raw is not None and raw.isdigit() and len(raw) < 19 else None
