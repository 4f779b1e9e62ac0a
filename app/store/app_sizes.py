"""Checks how much an app has written where receivers read it, and whether that is too much.

An app's Redis user may write without limit under ``app:``, and create groups of its stream. So
readers check the size first, which is cheap at any size, and skip an app that is far larger than
any honest one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backchannel_logout import AppKeys
from backchannel_logout.redis.internals import BoundedParser

Command = tuple[str | bytes | int, ...]

# Reports of 150 bytes each.
MAX_READERS = 10_000
_MAX_READERS_BYTES = 8 << 20

# The contract caps them at some hundred thousand, of 200 bytes each.
_MAX_RECEIPTS = 1_000_000
_MAX_RECEIPTS_BYTES = 128 << 20

# Only the app's people remove them: a hundred thousand of 1 KB.
_MAX_DEAD_LETTERS_BYTES = 128 << 20

# Redis answers with all groups of a stream: this many take 3 ms of the event loop. An honest app
# has one for each kind of listener.
_MAX_GROUPS = 1000

# Parts of a stream that Redis inspects, of some hundred entries each; all of an honest one.
_SAMPLES = 2000

COMMANDS = 7
STREAM = 2
"""Which of them is ``XINFO STREAM``."""

BEYOND_ANSWER = f"one answer has more than {BoundedParser.max_bytes >> 20} MiB"
"""The verdict on an app with acceptable sizes, but an answer that is too large."""


@dataclass(frozen=True, slots=True)
class AppSizes:
    """``written``: bytes that the app has written under names of the contract; ``events``: bytes
    of its event stream. None: unknown. ``beyond``: what is too large to be read.
    """

    written: int | None = None
    events: int | None = None
    beyond: str | None = None


def size_commands(keys: AppKeys) -> Sequence[Command]:
    """Return `COMMANDS` commands, each of which inspects a bounded part.

    The answer to ``XINFO STREAM`` contains the last entry of the stream, which may be too large.
    """
    return [
        ("HLEN", keys.readers),
        ("XLEN", keys.receipts),
        ("XINFO STREAM", keys.events),
        ("MEMORY USAGE", keys.readers, "SAMPLES", MAX_READERS),
        ("MEMORY USAGE", keys.receipts, "SAMPLES", _SAMPLES),
        ("MEMORY USAGE", keys.dead_letters, "SAMPLES", _SAMPLES),
        ("MEMORY USAGE", keys.events, "SAMPLES", _SAMPLES),
    ]


def sizes_of(answers: Sequence[Any]) -> AppSizes:
    """Evaluate the answers to `size_commands`.

    A user of Redis without the right to ``MEMORY USAGE`` gets the numbers alone.
    """
    readers, receipts, stream, readers_bytes, receipts_bytes, dead_bytes, events_bytes = answers
    groups = stream.get("groups") if isinstance(stream, dict) else None  # no stream: an error
    sizes = (readers_bytes, receipts_bytes, dead_bytes)
    known = [size or 0 for size in sizes if size is None or isinstance(size, int)]
    beyond = (
        _too_many("app:readers", readers, MAX_READERS, "fields")
        or _too_many("events", groups, _MAX_GROUPS, "groups")
        or _too_large("app:readers", readers_bytes, _MAX_READERS_BYTES)
        or _too_many("app:receipts", receipts, _MAX_RECEIPTS, "entries")
        or _too_large("app:receipts", receipts_bytes, _MAX_RECEIPTS_BYTES)
        or _too_large("app:dead-letters", dead_bytes, _MAX_DEAD_LETTERS_BYTES)
    )
    return AppSizes(
        written=sum(known) if len(known) == len(sizes) else None,
        events=events_bytes if isinstance(events_bytes, int) else None,
        beyond=beyond,
    )


def _too_many(name: str, number: Any, limit: int, things: str) -> str | None:
    if isinstance(number, int) and number > limit:
        return f"{name} has {number} {things}, and may have {limit}"
    return None


def _too_large(name: str, size: Any, limit: int) -> str | None:
    if isinstance(size, int) and size > limit:
        return f"{name} has {size >> 20} MiB, and may have {limit >> 20}"
    return None
