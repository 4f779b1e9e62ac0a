"""Reads an app's overview in a few round trips."""

import statistics
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from app.history.app_reader import AppReader, TooLarge, optional, required, text, whole
from app.history.proofs import parse_readers, parse_receipts
from app.history.records import AppOverview, DeliveredEvent, Group
from app.history.sid_mismatch import sid_mismatches
from app.history.streams import entry_seconds, parse_entries
from backchannel_logout import AppKeys, Outcome, Reader, ReaderKind
from backchannel_logout.contract.event import stream_id
from backchannel_logout.contract.readers import is_active

# Receipts used for teardown times: a busy app's last few minutes.
RECEIPTS = 200

# Groups listed per app.
_MAX_GROUPS = 100

# A higher number makes no difference.
_MAX_BEHIND = 1000


async def read_app_overview(
    reader: AppReader, app: str, now: float, by_session: Collection[str]
) -> AppOverview:
    """``by_session``: the app's issuers whose tokens end one session and not all of its user.

    Raises `Unreadable`.
    """
    keys = AppKeys(app)
    own = await reader.query_app(
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
    number, dead = (optional(answer) for answer in own[3:])
    newest = parse_entries(last)
    seen = AppOverview(
        app=app,
        max_session_age=whole(meta),
        events=length,
        last_event=DeliveredEvent.read(app, *newest[0]) if newest else None,
        receipts=number or 0,
        dead_letters=dead or 0,
    )
    try:
        written = await reader.query_app_data(
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
    groups, reports, latest, last_dead = (optional(answer) for answer in written)
    readers = parse_readers(reports)
    active = [each for each in readers if is_active(each, now)]
    done = [
        each.seconds
        for each in parse_receipts(parse_entries(latest))
        if each.outcome is Outcome.DONE
    ]
    dead_letter = parse_entries(last_dead)
    return replace(
        seen,
        readers=_by_kind(active),
        silent=sum(each not in active and each.kind is not ReaderKind.ENDED for each in readers),
        asked_at=max((each.at for each in active if each.kind is ReaderKind.ASKS), default=None),
        reported=bool(readers or number),
        without_sid=await sid_mismatches(reader, keys, active, by_session),
        behind=await _behind(reader, keys, active, bool(newest)),
        groups=tuple(_group(group) for group in (groups or ())[:_MAX_GROUPS]),
        teardown_median=statistics.median(done) if done else None,
        teardown_slowest=max(done, default=None),
        last_dead_letter=entry_seconds(dead_letter[0][0]) if dead_letter else None,
    )


def _by_kind(active: Iterable[Reader]) -> tuple[tuple[str, int], ...]:
    kinds = [each.kind.value for each in active if each.kind is not ReaderKind.ENDED]
    return tuple((kind, kinds.count(kind)) for kind in sorted(set(kinds)))


async def _behind(
    reader: AppReader, keys: AppKeys, active: list[Reader], has_events: bool
) -> int | None:
    """Entries that the slowest reader has not read; None if no reader reports a position."""
    watching = (ReaderKind.CACHE, ReaderKind.BROADCAST)
    positions = [
        each.position for each in active if each.kind in watching and _is_id(each.position)
    ]
    if not positions:
        return None
    if not has_events:
        return 0
    oldest = min((position for position in positions if position is not None), key=stream_id)
    command = ("XRANGE", keys.events, f"({oldest}", "+", "COUNT", _MAX_BEHIND)
    (answer,) = await reader.query_app(keys.app, [command])
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
