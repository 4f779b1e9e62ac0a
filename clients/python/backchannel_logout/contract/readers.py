"""Who reads the stream of an app, and how far: the hash ``app:readers``. Pure.

A field for each process that reads, written by that process: its name, and JSON. So anybody can
see whether a logout has reached every replica of an app.
"""

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from backchannel_logout.contract.keys import VERSION

REPORT_SECONDS = 15.0
"""A reader reports at least this often, in seconds, also when there is nothing new."""

SILENT_SECONDS = 60.0
"""A reader that has not reported for so long has ended, or can not be told of a logout."""

IDLE_SECONDS = 7 * 86400.0
"""An app that asks Redis at each check reports beside one. Without requests it does not report, and
is not behind either: its report stands for so long."""

FORGOTTEN_SECONDS = 3600
"""A reader that has been silent for so long is removed by another one."""

HASH_SECONDS = 30 * 86400
"""The life of the whole hash after the last report of anybody."""

QUERY_REPORT_SECONDS = 60.0
"""A guard that asks Redis at each check reports at most this often, in seconds, and beside a check:
an app without requests does not report."""

MAX_ISSUERS = 8
"""Of so many issuers a report says whether their sessions have a ``sid``: it stays small."""


class ReaderKind(StrEnum):
    """How a process learns of logouts."""

    CACHE = "cache"
    """A guard with a near cache: it reads the stream, and asks for what it does not know."""
    ASKS = "asks"
    """Guards that ask Redis at each check and read no stream; one report for all of them."""
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
    no stream. ``sid``: for each issuer of a session that it was asked about, whether one of them
    had a ``sid``; a listener knows no sessions.
    """

    name: str
    kind: ReaderKind
    at: float
    position: str | None = None
    sid: Mapping[str, bool] = field(default_factory=dict, hash=False)

    def to_json(self) -> str:
        """The value of its field in the hash."""
        members: dict[str, Any] = {"v": VERSION, "kind": self.kind.value, "at": round(self.at, 3)}
        if self.position is not None:
            members["position"] = self.position
        if self.sid:
            members["sid"] = dict(self.sid)
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
                sid=_issuers(members.get("sid")),
            )
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None


def _issuers(found: object) -> dict[str, bool]:
    """The member ``sid``, as far as it can be read."""
    if not isinstance(found, dict):
        return {}
    named = {iss: has for iss, has in found.items() if isinstance(has, bool)}
    return dict(list(named.items())[:MAX_ISSUERS])


def query_report(key: str, now: float, sid: Mapping[str, bool]) -> list[tuple[str | int, ...]]:
    """What a guard that asks Redis at each check writes beside one, at most once a minute.

    One field for all processes of the app: none of them can be behind.
    """
    reader = Reader(name=ReaderKind.ASKS, kind=ReaderKind.ASKS, at=now, sid=sid)
    return [("HSET", key, reader.name, reader.to_json()), ("EXPIRE", key, HASH_SECONDS)]


def is_active(reader: Reader, now: float) -> bool:
    """Whether its report still stands."""
    stands = IDLE_SECONDS if reader.kind is ReaderKind.ASKS else SILENT_SECONDS
    return reader.at >= now - stands


def farewell(key: str, name: str, now: float) -> list[tuple[str | int, ...]]:
    """What a reader writes at its clean end, so that it is known that somebody has read."""
    ended = Reader(name=ReaderKind.ENDED, kind=ReaderKind.ENDED, at=now)
    return [("HSET", key, ended.name, ended.to_json()), ("HDEL", key, name)]


def as_text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def process_name() -> str:
    """A name for this process that no other one has: host, process id, and something random."""
    return f"{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(4)}"


def stale_readers(readers: Mapping[str, Reader | None], now: float) -> list[str]:
    """The names of readers to remove: long silent, or unreadable; the latest one always stays,
    so that it can be told when somebody has last read."""
    known = {name: reader.at for name, reader in readers.items() if reader is not None}
    latest = max(known, key=lambda name: known[name], default=None)
    return [
        name
        for name in readers
        if name != latest and known.get(name, 0.0) < now - FORGOTTEN_SECONDS
    ]
