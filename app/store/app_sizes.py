"""How much an app has written to Redis where others read it: little enough to be read, or too much.

An app's Redis user may write under ``app:``, and make groups of its stream, as much as it likes:
Redis knows no limit for a user. Whoever reads that looks first at how large it is, which costs
Redis little however large it is, and leaves out an app that is beyond any honest one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backchannel_logout import AppKeys
from backchannel_logout.redis.internals import BoundedParser

Command = tuple[str | int, ...]

# Reports of 150 bytes each.
MOST_READERS = 10_000
_MOST_READERS_BYTES = 8 << 20

# The contract caps them at some hundred thousand of 200 bytes.
_MOST_RECEIPTS = 1_000_000
_MOST_RECEIPTS_BYTES = 128 << 20

# Nobody removes them but the app's people: a hundred thousand of 1 KB.
_MOST_DEAD_LETTERS_BYTES = 128 << 20

# Redis answers with all groups of a stream: so many take 3 ms of the event loop. An honest app has
# one for each kind of listener.
_MOST_GROUPS = 1000

# Parts of a stream that Redis looks at, of some hundred entries each; all of one that is honest.
_SAMPLES = 2000

COMMANDS = 7

BEYOND_ANSWER = f"one answer has more than {BoundedParser.max_bytes >> 20} MiB"
"""What is said of an app whose sizes looked well, and whose answer was too large after all."""


@dataclass(frozen=True, slots=True)
class AppSizes:
    """``written`` are the bytes of what the app writes under names of the contract, ``events``
    those of its event stream; None: Redis does not say. ``beyond``: what is too large to be read.
    """

    written: int | None = None
    events: int | None = None
    beyond: str | None = None


def size_commands(keys: AppKeys) -> Sequence[Command]:
    """`COMMANDS` commands, each of which looks at a bounded part.

    The last entry of the event stream is in the answer to ``XINFO STREAM``: it may be too large.
    """
    return [
        ("HLEN", keys.readers),
        ("XLEN", keys.receipts),
        ("XINFO STREAM", keys.events),
        ("MEMORY USAGE", keys.readers, "SAMPLES", MOST_READERS),
        ("MEMORY USAGE", keys.receipts, "SAMPLES", _SAMPLES),
        ("MEMORY USAGE", keys.dead_letters, "SAMPLES", _SAMPLES),
        ("MEMORY USAGE", keys.events, "SAMPLES", _SAMPLES),
    ]


def sizes_of(answers: Sequence[Any]) -> AppSizes:
    """From the answers to `size_commands`. A user of Redis that may not ask for the memory learns
    the numbers alone."""
    readers, receipts, stream, readers_bytes, receipts_bytes, dead_bytes, events_bytes = answers
    groups = stream.get("groups") if isinstance(stream, dict) else None  # no stream: an error
    asked = (readers_bytes, receipts_bytes, dead_bytes)
    known = [one or 0 for one in asked if one is None or isinstance(one, int)]
    found = (
        _too_many("app:readers", readers, MOST_READERS, "fields")
        or _too_many("events", groups, _MOST_GROUPS, "groups")
        or _too_large("app:readers", readers_bytes, _MOST_READERS_BYTES)
        or _too_many("app:receipts", receipts, _MOST_RECEIPTS, "entries")
        or _too_large("app:receipts", receipts_bytes, _MOST_RECEIPTS_BYTES)
        or _too_large("app:dead-letters", dead_bytes, _MOST_DEAD_LETTERS_BYTES)
    )
    return AppSizes(
        written=sum(known) if len(known) == len(asked) else None,
        events=events_bytes if isinstance(events_bytes, int) else None,
        beyond=found,
    )


def _too_many(name: str, number: Any, most: int, things: str) -> str | None:
    if isinstance(number, int) and number > most:
        return f"{name} has {number} {things}, and may have {most}"
    return None


def _too_large(name: str, size: Any, most: int) -> str | None:
    if isinstance(size, int) and size > most:
        return f"{name} has {size >> 20} MiB, and may have {most >> 20}"
    return None
