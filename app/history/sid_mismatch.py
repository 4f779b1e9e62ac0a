"""Finds sessions that no logout token ends: the token names a ``sid``, and they have none.

Some providers send ``sid`` in the logout token and not in the ID token. With the default
``both_claims = "session"`` such a token ends only that session, which matches no app session.
"""

from collections.abc import Collection, Iterable

from app.history.app_reader import AppReader, required, text
from app.history.streams import Fields, parse_entries
from backchannel_logout import AppKeys, Reader

# How many of the newest events are searched.
_EVENTS = 100


async def sid_mismatches(
    reader: AppReader, keys: AppKeys, readers: Iterable[Reader], by_session: Collection[str]
) -> tuple[str, ...]:
    """Those of the issuers whose logout tokens name a ``sid`` and a ``sub``, for sessions of this
    app that have no ``sid``.

    ``by_session``: the names of the issuers whose tokens end one session. Raises `Unreadable`.
    """
    has_sid: dict[str, bool] = {}  # whether any session of the issuer has one, as guards report
    for each in readers:
        for iss, has in each.sid.items():
            has_sid[iss] = has_sid.get(iss, False) or has
    suspects = {iss for iss, has in has_sid.items() if not has and iss in by_session}
    if not suspects:
        return ()
    command = ("XREVRANGE", keys.events, "+", "-", "COUNT", _EVENTS)
    (answer,) = await reader.query_app(keys.app, [command])
    named = {_by_sid_and_sub(fields) for _, fields in parse_entries(required(answer))}
    return tuple(sorted(suspects & named))


def _by_sid_and_sub(fields: Fields) -> str:
    """The issuer of an event with ``sid`` and ``sub``, or an empty string."""
    both = b"sid" in fields and b"sub" in fields
    if fields.get(b"kind") != b"session" or fields.get(b"source") != b"backchannel-logout":
        return ""
    return text(fields.get(b"iss", b"")) if both else ""
