"""Which processes read an app's stream, and how far: the hash ``app:readers``.

Each process writes its own field, whose name is the process's and whose value is JSON. It shows
whether a logout has reached every replica of an app.
"""

import json
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from backchannel_logout.contract.keys import VERSION

REPORT_SECONDS = 15.0
"""A reader reports at least this often, in seconds, also without news."""

SILENT_SECONDS = 60.0
"""After this long without a report a reader has ended, or does not learn of logouts."""

IDLE_SECONDS = 7 * 86400.0
"""How long the report of an app that asks Redis at each check is valid: it reports with a check,
and without requests it is not behind either."""

FORGOTTEN_SECONDS = 3600
"""After this long without a report a reader's field is removed by another reader."""

HASH_SECONDS = 30 * 86400
"""The life of the whole hash after the last report."""

QUERY_REPORT_SECONDS = 60.0
"""A guard that asks Redis at each check reports at most this often, in seconds, and only with a
check."""

MAX_ISSUERS = 8
"""The number of issuers in `Reader.sid`, so that a report stays small."""


class ReaderKind(StrEnum):
    """How a process learns of logouts."""

    CACHE = "cache"
    """A guard with a near cache: it reads the stream, and asks Redis for unknown sessions."""
    ASKS = "asks"
    """Guards that ask Redis at each check and read no stream; one report for all of them."""
    GROUP = "group"
    """A listener in group mode: each event is handled by one replica."""
    BROADCAST = "broadcast"
    """A listener in broadcast mode: it reads each event."""
    ENDED = "ended"
    """Not a process: when a reader of any kind last ended cleanly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One process that learns of logouts. ``at`` is epoch seconds.

    ``position`` is the id of the last stream entry that it has handled; None if it reads no stream.
    ``sid``: for each issuer of a session it has checked, whether one of them had a ``sid``; a
    listener checks no sessions.
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
        """Parse a field; None for one that this release does not understand."""
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


def _issuers(value: object) -> dict[str, bool]:
    """The readable part of the member ``sid``."""
    if not isinstance(value, dict):
        return {}
    named = {iss: has_sid for iss, has_sid in value.items() if isinstance(has_sid, bool)}
    return dict(list(named.items())[:MAX_ISSUERS])


def query_report(key: str, now: float, sid: Mapping[str, bool]) -> list[tuple[str | int, ...]]:
    """The commands that a guard without a near cache sends with a check, at most once a minute.

    One field for all processes of the app: none of them can be behind.
    """
    reader = Reader(name=ReaderKind.ASKS, kind=ReaderKind.ASKS, at=now, sid=sid)
    return [("HSET", key, reader.name, reader.to_json()), ("EXPIRE", key, HASH_SECONDS)]


def is_active(reader: Reader, now: float) -> bool:
    """Whether its report is still valid."""
    valid = IDLE_SECONDS if reader.kind is ReaderKind.ASKS else SILENT_SECONDS
    return reader.at >= now - valid


def farewell(key: str, name: str, now: float) -> list[tuple[str | int, ...]]:
    """The commands of a reader that ends cleanly: its field goes, the time of its end stays."""
    ended = Reader(name=ReaderKind.ENDED, kind=ReaderKind.ENDED, at=now)
    return [("HSET", key, ended.name, ended.to_json()), ("HDEL", key, name)]


def as_text(name: str | bytes) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def process_name() -> str:
    """A unique name for this process: host, process id, and random characters."""
    return f"{socket.gethostname()[:64]}-{os.getpid()}-{secrets.token_hex(4)}"


def read_hash(reply: Sequence[bytes]) -> dict[str, Reader | None]:
    """The readers in a reply to ``HGETALL``: names and values in turn."""
    return {
        as_text(name): Reader.from_json(name, text)
        for name, text in zip(reply[::2], reply[1::2], strict=True)
    }


def stale_readers(readers: Mapping[str, Reader | None], now: float) -> list[str]:
    """The names of readers to remove: silent for long, or unreadable.

    The latest one always stays, to show when the app last had a reader.
    """
    known = {name: reader.at for name, reader in readers.items() if reader is not None}
    latest = max(known, key=lambda name: known[name], default=None)
    return [
        name
        for name in readers
        if name != latest and known.get(name, 0.0) < now - FORGOTTEN_SECONDS
    ]
