"""Who reads the stream of an app, and how far: the hash ``app:readers``. Pure.

A field for each process that reads, written by that process: its name, and JSON. So anybody can
see whether a logout has reached every replica of an app.
"""

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from .keys import VERSION

REPORT_SECONDS = 15.0
"""A reader reports at least this often, in seconds, also when there is nothing new."""

SILENT_SECONDS = 60.0
"""A reader that has not reported for so long has ended, or can not be told of a logout."""

FORGOTTEN_SECONDS = 3600
"""A reader that has been silent for so long is removed by another one."""

HASH_SECONDS = 30 * 86400
"""The life of the whole hash after the last report of anybody."""


class ReaderKind(StrEnum):
    """How a process learns of logouts."""

    CACHE = "cache"
    """A guard with a near cache: it reads the stream, and asks for what it does not know."""
    ASKS = "asks"
    """A guard that asks Redis at each check and reads no stream."""
    GROUP = "group"
    """A listener of which each event is handled by one replica."""
    BROADCAST = "broadcast"
    """A listener that sees each event."""
    ENDED = "ended"
    """Nobody that runs: when a reader of any kind has last ended cleanly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One process that learns of logouts. ``at`` is epoch seconds.

    ``position`` is the id of the last stream entry that it has dealt with; None where it reads
    no stream.
    """

    name: str
    kind: ReaderKind
    at: float
    position: str | None = None

    def to_json(self) -> str:
        """The value of its field in the hash."""
        members: dict[str, Any] = {"v": VERSION, "kind": self.kind.value, "at": round(self.at, 3)}
        if self.position is not None:
            members["position"] = self.position
        return json.dumps(members, separators=(",", ":"))

    @classmethod
    def from_json(cls, name: str | bytes, text: str | bytes) -> Self | None:
        """Read a field of the hash; None for one that this release does not understand."""
        name = as_text(name)
        try:
            members = json.loads(text)
            position = members.get("position")
            if members["v"] != VERSION or not (position is None or isinstance(position, str)):
                return None
            return cls(
                name=name,
                kind=ReaderKind(members["kind"]),
                at=float(members["at"]),
                position=position,
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None


def farewell(key: str, name: str, now: float) -> list[tuple[str | int, ...]]:
    """What a reader writes at its clean end, so that it is known that somebody has read."""
    ended = Reader(name=ReaderKind.ENDED, kind=ReaderKind.ENDED, at=now)
    return [("HSET", key, ended.name, ended.to_json()), ("HDEL", key, name)]


def as_text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def process_name() -> str:
    """A name for this process that no other one has: host, process id, and something random."""
    return f"{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(4)}"


def forgotten(readers: Mapping[str, Reader | None], now: float) -> list[str]:
    """The names of readers to remove: long silent, or unreadable; the latest one always stays,
    so that it can be told when somebody has last read."""
    known = {name: reader.at for name, reader in readers.items() if reader is not None}
    latest = max(known, key=lambda name: known[name], default=None)
    return [
        name
        for name in readers
        if name != latest and known.get(name, 0.0) < now - FORGOTTEN_SECONDS
    ]
