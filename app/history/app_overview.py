"""An app at a glance, in a few round trips."""

import statistics
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from app.history.app_reader import AppReader, TooLarge, Unreadable, optional, required, text
from app.history.proofs import parse_readers, parse_receipts
from app.history.records import AppOverview, DeliveredEvent, Group
from app.history.sid_mismatch import sid_mismatches
from app.history.streams import entry_seconds, parse_entries
from backchannel_logout import AppKeys, Outcome, Reader, ReaderKind
from backchannel_logout.contract.event import stream_id
from backchannel_logout.contract.readers import is_active

# Receipts that the times of teardown are taken from: the last few minutes of a busy app.
RECEIPTS = 200

# Groups of one app that are described.
_MAX_GROUPS = 100

# Beyond it the number does not matter any more.
_MAX_BEHIND = 1000


async def read_app_overview(
    reading: AppReader, app: str, now: float, by_session: Collection[str] = ()
) -> AppOverview:
    """Never raises for Redis: what is wrong is in ``fault``.

    ``by_session``: the names of the app's issuers whose tokens end one session, not its user's.
    """
    try:
        return await _read_app_overview(reading, app, now, by_session)
    except Unreadable as fault:
        return AppOverview(app=app, fault=str(fault))


async def _read_app_overview(
    reading: AppReader, app: str, now: float, by_session: Collection[str]
) -> AppOverview:
    keys = AppKeys(app)
    own = await reading.query_app(
        app,
        [
            ("HGET", keys.meta, "max_session_age"),
            ("XLEN", keys.events),
            ("XREVRANGE", keys.events, "+", "-", "COUNT", 1),
            ("XLEN", keys.receipts),
            ("XLEN", keys.dead_letters),
        ],
    )
    meta, length, last = (required(answer) for answer in own[:3])
    number, dead = (optional(one) for one in own[3:])
    newest = parse_entries(last)
    seen = AppOverview(
        app=app,
        max_session_age=_whole(meta),
        events=length,
        last_event=DeliveredEvent.read(app, *newest[0]) if newest else None,
        receipts=number or 0,
        dead_letters=dead or 0,
    )
    try:
        written = await reading.query_app_data(
            app,
            [
                ("XINFO GROUPS", keys.events),
                ("HGETALL", keys.readers),
                ("XREVRANGE", keys.receipts, "+", "-", "COUNT", RECEIPTS),
                ("XREVRANGE", keys.dead_letters, "+", "-", "COUNT", 1),
            ],
        )
    except TooLarge as fault:
        return replace(seen, beyond=str(fault))
    groups, found, latest, last_dead = (optional(one) for one in written)
    readers = parse_readers(found)
    active = [one for one in readers if is_active(one, now)]
    done = [
        one.seconds for one in parse_receipts(parse_entries(latest)) if one.outcome is Outcome.DONE
    ]
    dead_letter = parse_entries(last_dead)
    return replace(
        seen,
        readers=_by_kind(active),
        silent=sum(one not in active and one.kind is not ReaderKind.ENDED for one in readers),
        asked_at=max((one.at for one in active if one.kind is ReaderKind.ASKS), default=None),
        reported=bool(readers or number),
        without_sid=await sid_mismatches(reading, keys, active, by_session),
        behind=await _behind(reading, keys, active, bool(newest)),
        groups=tuple(_group(one) for one in (groups or ())[:_MAX_GROUPS]),
        teardown_median=statistics.median(done) if done else None,
        teardown_slowest=max(done, default=None),
        last_dead_letter=entry_seconds(dead_letter[0][0]) if dead_letter else None,
    )


def _by_kind(active: Iterable[Reader]) -> tuple[tuple[str, int], ...]:
    kinds = [one.kind.value for one in active if one.kind is not ReaderKind.ENDED]
    return tuple((kind, kinds.count(kind)) for kind in sorted(set(kinds)))


async def _behind(
    reading: AppReader, keys: AppKeys, active: list[Reader], has_events: bool
) -> int | None:
    """Entries after the position of the one that is furthest back; None where nobody says."""
    watching = (ReaderKind.CACHE, ReaderKind.BROADCAST)
    positions = [one.position for one in active if one.kind in watching and _is_id(one.position)]
    if not positions:
        return None
    if not has_events:
        return 0
    least = min((one for one in positions if one is not None), key=stream_id)
    command = ("XRANGE", keys.events, f"({least}", "+", "COUNT", _MAX_BEHIND)
    (answer,) = await reading.query_app(keys.app, [command])
    return len(parse_entries(required(answer)))


def _is_id(position: str | None) -> bool:
    try:
        return position is not None and bool(stream_id(position))
    except ValueError:
        return False


def _group(found: dict[Any, Any]) -> Group:
    members = {text(name): value for name, value in found.items()}
    return Group(
        name=text(members["name"]),
        consumers=members["consumers"],
        pending=members["pending"],
        lag=members.get("lag"),
        last_delivered=text(members["last-delivered-id"]),
    )


def _whole(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None
