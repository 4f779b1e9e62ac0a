"""The decision: is this session dead? The same in every language (see contract/vectors.json)."""

import re
from collections.abc import Iterable
from enum import Enum

from .keys import AppKeys
from .session import MAX_AHEAD, Session


class Verdict(Enum):
    """What the markers say of a session."""

    ALIVE = "alive"
    REVOKED = "revoked"
    """A marker of its session id, its user or its issuer covers its login."""
    EXPIRED = "expired"
    """Older than ``max_session_age``, or its login lies more than a day ahead: no marker can speak
    for it, so it is dead."""


def marker_keys(keys: AppKeys, session: Session) -> list[str]:
    """The keys to ask for, one to three; the values go to `decide` in any order."""
    wanted = [keys.all(session.iss)]
    if session.sid is not None:
        wanted.append(keys.sid(session.iss, session.sid))
    if session.sub is not None:
        wanted.append(keys.sub(session.iss, session.sub))
    return wanted


def decide(
    session: Session,
    markers: Iterable[bytes | str | None],
    *,
    max_session_age: int,
    now: float,
) -> Verdict:
    """Judge a session by the values of its markers.

    ``markers`` are Redis values (``None``: no such key), ``max_session_age`` is in seconds,
    ``now`` in epoch seconds. Where no other marker ends the session, raises ``ValueError``
    for a marker that is not an integer: what can not be read must not be taken for "alive".
    """
    cutoffs, unreadable = [], None
    for marker in markers:
        if marker is None:
            continue
        try:
            cutoffs.append(whole_number(marker))
        except ValueError as error:
            unreadable = error
    if any(session.login_at <= cutoff for cutoff in cutoffs):
        return Verdict.REVOKED
    if unreadable is not None:
        raise unreadable
    if session.login_at + max_session_age < now or session.login_at > now + MAX_AHEAD:
        return Verdict.EXPIRED
    return Verdict.ALIVE


_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def whole_number(value: bytes | str) -> int:
    """The integer that a Redis value spells. Raises ``ValueError`` for anything else.

    Stricter than ``int()``, which takes ``1_0`` and Arabic digits: other languages do not.
    """
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError("not a whole number")
    return int(text)
