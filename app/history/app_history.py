"""One session or user in one app: what its check says, which event did it, who has acted.

The decision and the proof are the client package's own.
"""

from collections.abc import Mapping
from typing import Any

from app.history.app_reader import AppReader, Unreadable, required
from app.history.proofs import with_proof
from app.history.records import AppHistory, DeliveredEvent, Marker, RevocationQuery, Search, State
from app.history.streams import entry_seconds, newest_first
from backchannel_logout import AppKeys, EventKind, Session, Verdict, decide, marker_keys
from backchannel_logout.contract.decision import CODE_SECONDS, sid_marker, whole_number

MAX_ENTRIES = 100_000
"""How many entries of the stream one question looks at: about a second."""

# Of the newest events; each costs a walk through the receipts after it.
_MAX_PROVEN = 20

# Redis' clock and ours may differ, beside what providers' clocks may (the issuer's leeway).
_CLOCK_SKEW = 60.0


async def read_app_history(
    reading: AppReader,
    app: str,
    question: RevocationQuery,
    *,
    now: float,
    leeway: float,
    most: int = MAX_ENTRIES,
) -> AppHistory:
    """Never raises for Redis: what is wrong is in ``fault``. ``leeway`` is the issuer's."""
    try:
        return await _read_app_history(reading, app, question, now=now, leeway=leeway, most=most)
    except Unreadable as fault:
        return AppHistory(app=app, fault=str(fault))


async def _read_app_history(
    reading: AppReader, app: str, question: RevocationQuery, *, now: float, leeway: float, most: int
) -> AppHistory:
    keys = AppKeys(app)
    session = Session(
        question.iss, question.login_at or 0, sid=question.sid, sub=question.sub,
        auth_time=question.auth_time,
    )  # fmt: skip
    wanted = marker_keys(keys, session)
    commands = [command for key in wanted for command in (("GET", key), ("PTTL", key))]
    meta, *found = await reading.query_app(app, [("HGET", keys.meta, "max_session_age"), *commands])
    max_age, values = required(meta), [required(one) for one in found]
    markers = _markers(keys, question, wanted, values)
    cutoff = max((one.cutoff for one in markers if one.cutoff is not None), default=None)
    state = _state(question, session, values[::2], max_age, now)
    told, search = await _events(
        reading, keys, question, floor=_floor(question, markers, leeway), most=most
    )
    told = await _proven(reading, told, cutoff, now)
    covering = [one for one in told if one.covers and one.event is not None]
    return AppHistory(
        app=app,
        state=state,
        max_session_age=int(max_age) if max_age is not None and max_age.isdigit() else None,
        markers=markers,
        cutoff=cutoff,
        cause=_cause(covering, cutoff),
        events=tuple(told),
        search=search,
        lost=_is_lost(covering, cutoff, max_age, now),
    )


async def _proven(
    reading: AppReader, told: list[DeliveredEvent], cutoff: int | None, now: float
) -> list[DeliveredEvent]:
    """The newest events with their proof, and the one that ended it, however old."""
    cause = _cause([one for one in told if one.covers and one.event is not None], cutoff)
    return [
        await with_proof(reading, one, now) if n < _MAX_PROVEN or one is cause else one
        for n, one in enumerate(told)
    ]


def _markers(
    keys: AppKeys, question: RevocationQuery, wanted: list[str], values: list[Any]
) -> tuple[Marker, ...]:
    kinds = {keys.all(question.iss): EventKind.ALL}
    if question.sid is not None:
        kinds[keys.sid(question.iss, question.sid)] = EventKind.SESSION
    if question.sub is not None:
        kinds[keys.sub(question.iss, question.sub)] = EventKind.USER
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
    question: RevocationQuery,
    session: Session,
    values: list[Any],
    max_age: bytes | None,
    now: float,
) -> State:
    """The app's own decision; where the login's time is not known, that of any old login."""
    if max_age is None or not max_age.isdigit():
        return State.UNKNOWN
    # Without a login its age says nothing.
    age = int(max_age) if question.login_at is not None else int(now) + 1
    try:
        verdict = decide(
            session, values, max_session_age=age, now=now, sid_marker=sid_marker(session, values)
        )
    except ValueError:
        return State.UNKNOWN
    return {
        Verdict.ALIVE: State.ALIVE,
        Verdict.REVOKED: State.REVOKED,
        Verdict.EXPIRED: State.EXPIRED,
    }[verdict]


def _floor(question: RevocationQuery, markers: tuple[Marker, ...], leeway: float) -> float:
    """Before it no event matters, in epoch seconds: an event is written at its cutoff or later,
    as far as the clocks agree."""
    if question.login_at is not None:
        # A code that was redeemed after the logout: the login is the later of the two.
        code = CODE_SECONDS if question.auth_time is not None else 0
        return question.login_at - code - leeway - _CLOCK_SKEW
    cutoffs = [one.cutoff for one in markers if one.cutoff is not None]
    if question.sid is None or not cutoffs:
        return 0.0  # a user's sessions end at any time
    return min(cutoffs) - leeway - _CLOCK_SKEW


async def _events(
    reading: AppReader, keys: AppKeys, question: RevocationQuery, *, floor: float, most: int
) -> tuple[list[DeliveredEvent], Search]:
    found: list[DeliveredEvent] = []
    looked, oldest, ended = 0, None, "start"

    async def ask(commands: Any) -> list[Any]:
        return await reading.query_app(keys.app, commands)

    async for page in newest_first(ask, keys.events, most=most):
        for entry_id, fields in page:
            if entry_seconds(entry_id) < floor:
                ended = "cutoff"
                break
            looked, oldest = looked + 1, entry_id
            if (covers := _concerns(fields, question)) is not None:
                found.append(DeliveredEvent.read(keys.app, entry_id, fields, covers=covers))
        if ended == "cutoff":
            break
    if ended == "start" and looked >= most:
        ended = "limit"
    at = entry_seconds(oldest) if oldest is not None else None
    return found, Search(entries=looked, ended=ended, oldest=at)


def _concerns(fields: Mapping[bytes, bytes], question: RevocationQuery) -> bool | None:
    """Whether the event's marker speaks for whom the question is about; None: it is of others.

    On the raw fields: most entries are of others, and reading each as an event takes ten times
    as long.
    """
    if fields.get(b"iss") != question.iss.encode():
        return None
    kind = fields.get(b"kind")
    sid, sub = question.sid, question.sub
    if kind == b"all":
        return True
    if kind == b"user":
        return True if sub is not None and fields.get(b"sub") == sub.encode() else None
    if sid is not None:
        return True if fields.get(b"sid") == sid.encode() else None
    return False if sub is not None and fields.get(b"sub") == sub.encode() else None


def _cause(covering: list[DeliveredEvent], cutoff: int | None) -> DeliveredEvent | None:
    """The first event that brought the cutoff: what came after it changed nothing."""
    same = [one for one in covering if one.event is not None and one.event.cutoff == cutoff]
    return same[-1] if same else None


def _is_lost(
    covering: list[DeliveredEvent], cutoff: int | None, max_age: bytes | None, now: float
) -> bool:
    """Whether a marker that an event has written should be there, and is not."""
    if max_age is None or not max_age.isdigit():
        return False
    newest = max((one.event.cutoff for one in covering if one.event is not None), default=None)
    if newest is None or (cutoff is not None and cutoff >= newest):
        return False
    return newest + int(max_age) > now
