"""The decision: is this session dead? The same in every language (see contract/vectors.json)."""

import re
from collections.abc import Iterable, Sequence
from enum import Enum

from backchannel_logout.contract.keys import AppKeys
from backchannel_logout.contract.session import MAX_AHEAD, Session

Value = bytes | str | None
"""The value of a marker in Redis; None: there is no such key."""


CODE_SECONDS = 60
"""For so long after a logout, a login whose user signed in before it is dead: its authorization
code was issued before the logout. Codes live for about a minute."""


class Verdict(Enum):
    """What the markers say of a session."""

    ALIVE = "alive"
    REVOKED = "revoked"
    """A marker of its session id, its user or its issuer covers its login."""
    EXPIRED = "expired"
    """Older than ``max_session_age``, or its login lies more than a day ahead: no marker can speak
    for it, so it is dead."""


def marker_keys(keys: AppKeys, session: Session) -> list[str]:
    """The keys to ask for, one to three; the values go to `decide`, see `sid_marker`."""
    wanted = [keys.all(session.iss)]
    if session.sid is not None:
        wanted.append(keys.sid(session.iss, session.sid))
    if session.sub is not None:
        wanted.append(keys.sub(session.iss, session.sub))
    return wanted


def sid_marker(session: Session, markers: Sequence[Value]) -> Value:
    """The marker of the session's own id, out of the values of `marker_keys` in their order."""
    return markers[1] if session.sid is not None else None


def decide(
    session: Session,
    markers: Iterable[Value],
    *,
    max_session_age: int,
    now: float,
    sid_marker: Value = None,
) -> Verdict:
    """Judge a session by the values of its markers.

    ``markers`` are Redis values in any order (``None``: no such key), ``sid_marker`` is that of
    them which belongs to the session's ``sid``: without it, a session whose authorization code is
    older than the logout can be alive. ``max_session_age`` is in seconds, ``now`` in epoch
    seconds. Where no other marker ends the session, raises ``ValueError``
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
    if _is_of_earlier_code(session, sid_marker):
        return Verdict.REVOKED
    if unreadable is not None:
        raise unreadable
    if session.login_at + max_session_age < now or session.login_at > now + MAX_AHEAD:
        return Verdict.EXPIRED
    return Verdict.ALIVE


def _is_of_earlier_code(session: Session, sid_marker: Value) -> bool:
    """Whether the user signed in before the logout, and the app redeemed the code soon after it."""
    if session.auth_time is None or sid_marker is None:
        return False
    try:
        cutoff = whole_number(sid_marker)
    except ValueError:
        return False  # it is among the markers, where it counts as unreadable
    return session.auth_time <= cutoff and session.login_at <= cutoff + CODE_SECONDS


_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def whole_number(value: bytes | str) -> int:
    """The integer that a Redis value spells. Raises ``ValueError`` for anything else.

    Stricter than ``int()``, which takes ``1_0`` and Arabic digits: other languages do not.
    """
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError("not a whole number")
    return int(text)
