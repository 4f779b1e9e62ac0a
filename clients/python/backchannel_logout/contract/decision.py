"""The decision whether a session is dead; the same in every language (contract/vectors.json)."""

import re
from collections.abc import Iterable, Sequence
from enum import Enum

from backchannel_logout.contract.keys import AppKeys
from backchannel_logout.contract.kinds import MARKER_KINDS
from backchannel_logout.contract.session import MAX_AHEAD, Session

Value = bytes | str | None
"""The value of a marker in Redis; None: the key does not exist."""


CODE_SECONDS = 60
"""How long after a logout a login is dead whose user signed in before it: its authorization code
was issued before the logout. Codes live for about a minute."""


class Verdict(Enum):
    """The state of a session, by its markers and its age."""

    ALIVE = "alive"
    REVOKED = "revoked"
    """A marker of its session id, its user or its issuer covers its login."""
    EXPIRED = "expired"
    """Older than ``max_session_age``, or its login is more than a day ahead: no marker covers such
    a session, so it is dead."""


def marker_keys(keys: AppKeys, session: Session) -> list[str]:
    """The keys to query, one to three; pass the values to `decide`, see `sid_marker`."""
    return [
        keys.marker(row.kind, session.iss, value)
        for row in MARKER_KINDS
        if (value := row.value(session)) is not None
    ]


def sid_marker(session: Session, markers: Sequence[Value]) -> Value:
    """The marker of the session's own id, from the values of `marker_keys` in their order."""
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

    ``markers`` are Redis values in any order (``None``: no such key). ``sid_marker`` is the one of
    them that belongs to the session's ``sid``: without it, a session whose authorization code is
    older than the logout can be alive. ``max_session_age`` is in seconds, ``now`` in epoch seconds.
    Raises ``ValueError`` for a marker that is not an integer, unless another marker ends the
    session: an unreadable marker must not count as "alive".
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
    if _code_is_older(session, sid_marker):
        return Verdict.REVOKED
    if unreadable is not None:
        raise unreadable
    if session.login_at + max_session_age < now or session.login_at > now + MAX_AHEAD:
        return Verdict.EXPIRED
    return Verdict.ALIVE


def _code_is_older(session: Session, sid_marker: Value) -> bool:
    """Whether the user signed in before the logout, and the app redeemed the code soon after it."""
    if session.auth_time is None or sid_marker is None:
        return False
    try:
        cutoff = whole_number(sid_marker)
    except ValueError:
        return False  # also among the markers, where it counts as unreadable
    return session.auth_time <= cutoff and session.login_at <= cutoff + CODE_SECONDS


_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")


def whole_number(value: bytes | str) -> int:
    """The integer in a Redis value. Raises ``ValueError`` for anything else.

    Stricter than ``int()``, which accepts ``1_0`` and Arabic digits: other languages do not.
    """
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    if not _WHOLE_NUMBER.fullmatch(text):
        raise ValueError("not a whole number")
    return int(text)
