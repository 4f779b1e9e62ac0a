"""Reads the history of a session or user in one app: its state, the cause, and who has acted.

Decision and proof come from the client package, so they equal the app's own.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from app.history.app_reader import AppReader, required, whole
from app.history.proofs import with_proof
from app.history.records import AppHistory, DeliveredEvent, Marker, RevocationQuery, Search, State
from app.history.streams import entry_seconds, newest_first
from backchannel_logout import AppKeys, Session, decide, marker_keys
from backchannel_logout.contract.decision import CODE_SECONDS, sid_marker, whole_number
from backchannel_logout.contract.kinds import MARKER_KINDS

MAX_ENTRIES = 100_000
"""Stream entries examined per query, which takes about a second."""

# Newest events with a proof, which takes a walk through the receipts after each.
_MAX_PROVEN = 20

# How far Redis' clock and ours may differ, in addition to the issuer's leeway.
_CLOCK_SKEW = 60.0


async def read_app_history(
    reader: AppReader,
    app: str,
    query: RevocationQuery,
    *,
    now: float,
    leeway: float,
    limit: int = MAX_ENTRIES,
) -> AppHistory:
    """``leeway`` is the issuer's. Raises `Unreadable`."""
    keys = AppKeys(app)
    session = Session(
        query.iss, query.login_at or 0, sid=query.sid, sub=query.sub,
        auth_time=query.auth_time,
    )  # fmt: skip
    wanted = marker_keys(keys, session)
    commands = [command for key in wanted for command in (("GET", key), ("PTTL", key))]
    meta, *answers = await reader.query_app(
        app, [("HGET", keys.meta, "max_session_age"), *commands]
    )
    max_age, values = whole(required(meta)), [required(answer) for answer in answers]
    markers = _markers(keys, query, wanted, values)
    cutoff = max((marker.cutoff for marker in markers if marker.cutoff is not None), default=None)
    state = _state(query, session, values[::2], max_age, now)
    delivered, search = await _events(
        reader, keys, query, floor=_floor(query, markers, leeway), limit=limit
    )
    delivered = await _proven(reader, delivered, cutoff, now)
    covering = _covering(delivered)
    return AppHistory(
        app=app,
        state=state,
        max_session_age=max_age,
        markers=markers,
        cutoff=cutoff,
        cause=_cause(covering, cutoff),
        events=tuple(delivered),
        search=search,
        lost=_is_lost(covering, cutoff, max_age, now),
    )


async def _proven(
    reader: AppReader, delivered: list[DeliveredEvent], cutoff: int | None, now: float
) -> list[DeliveredEvent]:
    """Add proofs to the newest events, and to the cause however old it is."""
    cause = _cause(_covering(delivered), cutoff)
    return [
        await with_proof(reader, event, now) if n < _MAX_PROVEN or event is cause else event
        for n, event in enumerate(delivered)
    ]


def _markers(
    keys: AppKeys, query: RevocationQuery, wanted: list[str], values: list[Any]
) -> tuple[Marker, ...]:
    kinds = {
        keys.marker(row.kind, query.iss, value): row.kind
        for row in MARKER_KINDS
        if (value := row.value(query)) is not None
    }
    return tuple(
        Marker(
            kind=kinds[key],
            key=key,
            cutoff=_cutoff(value),
            expires_in=ms / 1000 if ms >= 0 else None,
        )
        for key, value, ms in zip(wanted, values[::2], values[1::2], strict=True)
        if value is not None
    )


def _cutoff(value: bytes) -> int | None:
    try:
        return whole_number(value)
    except ValueError:
        return None


def _state(
    query: RevocationQuery,
    session: Session,
    values: list[Any],
    max_age: int | None,
    now: float,
) -> State:
    """The app's own decision; without the login's time, that for an old login."""
    if max_age is None:
        return State.UNKNOWN
    # Without a login there is no age.
    age = max_age if query.login_at is not None else int(now) + 1
    try:
        verdict = decide(
            session, values, max_session_age=age, now=now, sid_marker=sid_marker(session, values)
        )
    except ValueError:
        return State.UNKNOWN
    return State(verdict.value)


def _floor(query: RevocationQuery, markers: tuple[Marker, ...], leeway: float) -> float:
    """The time before which no event matters, in epoch seconds.

    An event is written at its cutoff or later, as far as the clocks agree.
    """
    if query.login_at is not None:
        # A code redeemed after the logout makes the login later than the logout.
        code = CODE_SECONDS if query.auth_time is not None else 0
        return query.login_at - code - leeway - _CLOCK_SKEW
    cutoffs = [marker.cutoff for marker in markers if marker.cutoff is not None]
    if query.sid is None or not cutoffs:
        return 0.0  # a user's sessions can end at any time
    return min(cutoffs) - leeway - _CLOCK_SKEW


async def _events(
    reader: AppReader, keys: AppKeys, query: RevocationQuery, *, floor: float, limit: int
) -> tuple[list[DeliveredEvent], Search]:
    events: list[DeliveredEvent] = []
    looked, oldest, ended = 0, None, "start"
    ask = partial(reader.query_app, keys.app)
    async for page in newest_first(ask, keys.events, limit=limit):
        for entry_id, fields in page:
            if entry_seconds(entry_id) < floor:
                ended = "cutoff"
                break
            looked, oldest = looked + 1, entry_id
            if (covers := _concerns(fields, query)) is not None:
                events.append(DeliveredEvent.read(keys.app, entry_id, fields, covers=covers))
        if ended == "cutoff":
            break
    if ended == "start" and looked >= limit:
        ended = "limit"
    at = entry_seconds(oldest) if oldest is not None else None
    return events, Search(entries=looked, ended=ended, oldest=at)


def _concerns(fields: Mapping[bytes, bytes], query: RevocationQuery) -> bool | None:
    """Whether the event's marker applies to the query's subject; None: it is about another.

    Reads the raw fields: most entries are about others, and decoding each takes ten times as long.
    """
    if fields.get(b"iss") != query.iss.encode():
        return None
    kind = fields.get(b"kind")
    sid, sub = query.sid, query.sub
    if kind == b"all":
        return True
    if kind == b"user":
        return True if sub is not None and fields.get(b"sub") == sub.encode() else None
    if sid is not None:
        return True if fields.get(b"sid") == sid.encode() else None
    return False if sub is not None and fields.get(b"sub") == sub.encode() else None


def _covering(delivered: list[DeliveredEvent]) -> list[DeliveredEvent]:
    return [event for event in delivered if event.covers and event.event is not None]


def _cause(covering: list[DeliveredEvent], cutoff: int | None) -> DeliveredEvent | None:
    """The first event with the cutoff; later ones changed nothing."""
    same = [each for each in covering if each.event is not None and each.event.cutoff == cutoff]
    return same[-1] if same else None


def _is_lost(
    covering: list[DeliveredEvent], cutoff: int | None, max_age: int | None, now: float
) -> bool:
    """Whether a marker that an event wrote should still exist and does not."""
    if max_age is None:
        return False
    newest = max((each.event.cutoff for each in covering if each.event is not None), default=None)
    if newest is None or (cutoff is not None and cutoff >= newest):
        return False
    return newest + max_age > now
