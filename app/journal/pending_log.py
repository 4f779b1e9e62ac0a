"""The journal's log: which entries are still pending. Two kinds of records are in it:

    {"key": "…", "event": …, "refused": "…"}   an entry; with ``refused`` it is set aside
    {"done": ["…"]}                            the keys of entries that Redis has

An entry that is set aside, retried or moved is appended again, and the newer record counts. So the
log is understood by applying its records in order, after an append as at the start.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, NamedTuple

from app.journal.record import (
    OTHER_RELEASE,
    DamagedRecord,
    decode,
    encode,
    encode_members,
    is_whole,
    members_of,
)
from app.journal.segment_log import SEGMENT_BYTES, SegmentLog
from app.revocation import Revocation
from backchannel_logout.contract.event import to_json

# Segments are rewritten when most of the log is done and it is larger than this many.
_SLACK_SEGMENTS = 4

# Far shorter than what is read at once.
_KEYS_PER_RECORD = 500

# Bounds the memory of a retry.
_RETRIED_AT_ONCE = 500


class _Pending(NamedTuple):
    position: int
    """After its record."""
    size: int
    received_at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A revocation in the journal. ``refused`` tells why it is set aside; None: it waits."""

    id: int
    key: str
    revocation: Revocation
    refused: str | None


@dataclass(frozen=True, slots=True)
class Depth:
    """How much is in the journal. ``bytes`` are those of the records."""

    waiting: int = 0
    set_aside: int = 0
    bytes: int = 0
    oldest_at: float | None = None
    """When the first waiting entry was received, in epoch seconds."""


def key_of(revocation: Revocation) -> str:
    """Identify a logout: the same one of the same app is in a journal only once."""
    once = revocation.once_key
    identity = encode(revocation) if once is None else once.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(identity, digest_size=16).hexdigest()


def encode_entry(revocation: Revocation, key: str, *, refused: str | None = None) -> bytes:
    """Encode an entry's record."""
    reason = "" if refused is None else f'"refused":{to_json(refused)},'
    return encode(revocation, f'"key":"{key}",{reason}')


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that is kept although it cannot be read. ``id`` is the one of an entry."""

    id: int
    why: str
    record: bytes


class PendingLog:
    """The log in one directory. Not thread-safe; every method may raise ``OSError``."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.damaged: list[tuple[Path, int]] = []
        """Segments with something else than whole records, and how many of these they have."""
        self.missing = 0
        """Segments that are not there, between two that are."""
        self.bytes = 0
        self._slack = _SLACK_SEGMENTS * segment_bytes
        self._log = SegmentLog(directory, segment_bytes=segment_bytes, sync=True)
        self._pending: dict[str, _Pending] = {}
        """By key, in the order of the log."""
        self._waiting: dict[str, _Pending] = {}
        """Those that are not set aside, in the same order."""
        self._refused: dict[str, str] = {}
        self._not_noted: list[str] = []
        """Keys of entries that are done, for which the disk had no room."""

    def open(self, *, read_only: bool = False) -> None:
        """Read the log. ``read_only``: another process may have it open."""
        self._log.open(read_only=read_only)
        numbers = [segment.number for segment in self._log.segments]
        if numbers:  # only the oldest are ever deleted
            self.missing = numbers[-1] - numbers[0] + 1 - len(numbers)
        for segment in self._log.segments:
            whole, expected, count = True, segment.start, 0
            for position, record in segment.records():
                whole = whole and position - len(record) == expected
                expected, count = position + 1, count + 1
                self._apply(position, record)
            if segment.path and not (whole and segment.end <= expected <= segment.end + 1):
                self.damaged.append((segment.path, count))

    def close(self) -> None:
        self._log.close()

    def __contains__(self, key: object) -> bool:
        return key in self._pending

    def refused(self, key: str) -> str | None:
        """Tell why the entry is set aside, if it is."""
        return self._refused.get(key)

    def depth(self) -> Depth:
        oldest = next(iter(self._waiting.values()), None)
        oldest_at = oldest.received_at if oldest else None
        return Depth(len(self._waiting), len(self._refused), self.bytes, oldest_at)

    def read(self, *, after: int, limit: int, refused: bool) -> list[Entry]:
        """Return the next entries after a position: waiting ones, or those set aside.

        Those that can no longer be read count as set aside from then on.
        """
        pending = self._pending if refused else self._waiting
        while chosen := list(
            islice(
                (
                    (key, item)
                    for key, item in pending.items()
                    if item.position > after and (not refused or key in self._refused)
                ),
                limit,
            )
        ):
            if entries := list(self._read(chosen)):
                return entries
            after = chosen[-1][1].position
        return []

    def entries(self) -> Iterator[Entry]:
        """Yield every pending entry that can be read."""
        return self._read(list(self._pending.items()))

    def unreadable(self) -> Iterator[Unreadable]:
        """Yield every pending entry that cannot be read."""
        items = list(self._pending.values())
        records = self._log.records_at((item.position, item.size) for item in items)
        for item, record in zip(items, records, strict=True):
            try:
                decode(record)
            except DamagedRecord as error:
                yield Unreadable(item.position, str(error), record)

    def _read(self, chosen: Sequence[tuple[str, _Pending]]) -> Iterator[Entry]:
        records = self._log.records_at((item.position, item.size) for _, item in chosen)
        for (key, item), record in zip(chosen, records, strict=True):
            try:
                revocation = decode(record)
            except DamagedRecord:
                self._refused.setdefault(key, OTHER_RELEASE if is_whole(record) else "damaged")
                self._waiting.pop(key, None)
            else:
                yield Entry(item.position, key, revocation, self._refused.get(key))

    def append(self, records: Sequence[bytes]) -> None:
        """Append records, durably, and apply them. All of them are in the log, or none."""
        # First, so that an entry which comes again does not count as done.
        starts = range(0, len(self._not_noted), _KEYS_PER_RECORD)
        notes = [{"done": self._not_noted[start : start + _KEYS_PER_RECORD]} for start in starts]
        records = [*map(encode_members, notes), *records]
        if records:
            position = self._log.append(b"".join([record + b"\n" for record in records]))
            self._not_noted.clear()
            for record in records:
                position += len(record)
                self._apply(position, record)
                position += 1

    def set_aside(self, refused: Sequence[tuple[Entry, str]]) -> None:
        """Set entries aside, each with the reason."""
        # Also where the disk is full: they must not block the others.
        for entry, reason in refused:
            if self._waiting.pop(entry.key, None) is not None:
                self._refused[entry.key] = reason
        self.append([encode_entry(each.revocation, each.key, refused=why) for each, why in refused])

    def retry_all(self) -> int:
        """Let the entries that were set aside wait again; returns how many."""
        chosen = [(key, item) for key, item in self._pending.items() if key in self._refused]
        entries, count = self._read(chosen), 0
        while retried := list(islice(entries, _RETRIED_AT_ONCE)):
            self.append([encode_entry(entry.revocation, entry.key) for entry in retried])
            count += len(retried)
        return count

    def remove(self, keys: Sequence[str]) -> None:
        """Forget entries that are done; where the disk has no room, it is noted later."""
        removed = {key: self._pending[key].position for key in keys if key in self._pending}
        for key in removed:
            self._forget(key)
        # A segment can be deleted on a full disk, and needs no note.
        self._delete_done_segments()
        if not (segments := self._log.segments):
            self._not_noted.clear()
            return
        # What was in a deleted segment needs no note.
        first = segments[0].start
        self._not_noted += [key for key, position in removed.items() if position > first]
        self.append([])
        if len(segments) > 1 and self._log.size > 2 * self.bytes + self._slack:
            # Most of the log is done: what is still pending in the oldest segment moves to the end.
            end = segments[0].end
            oldest = takewhile(lambda item: item.position <= end, self._pending.values())
            places = [(item.position, item.size) for item in oldest]
            pending = [record for record in self._log.records_at(places) if is_whole(record)]
            self.append(pending)
            self._delete_done_segments()

    def _delete_done_segments(self) -> None:
        """Delete the oldest segments, up to the first pending entry."""
        pending = next(iter(self._pending.values()), None)
        while (segments := self._log.segments) and (
            pending is None or segments[0].end < pending.position
        ):
            self._log.drop_oldest()

    def probe(self) -> None:
        """Raise ``OSError`` if nothing can be appended."""
        self._log.probe()

    def _apply(self, position: int, record: bytes) -> None:
        members = _members(record)
        done = members.get("done")
        if isinstance(done, list):
            for key in done:
                self._forget(str(key))
        elif members or is_whole(record):
            key, reason, event = (members.get(name) for name in ("key", "refused", "event"))
            received_at = event.get("received_at") if isinstance(event, dict) else None
            if not isinstance(key, str):
                key = hashlib.blake2b(record, digest_size=16).hexdigest()
            if not isinstance(received_at, int | float):
                reason, received_at = OTHER_RELEASE, 0.0
            self._forget(key)
            self._pending[key] = _Pending(position, len(record), received_at)
            self.bytes += len(record)
            if reason is not None:
                self._refused[key] = str(reason)
            else:
                self._waiting[key] = self._pending[key]

    def _forget(self, key: str) -> None:
        if (entry := self._pending.pop(key, None)) is not None:
            self.bytes -= entry.size
            self._waiting.pop(key, None)
            self._refused.pop(key, None)


def _members(record: bytes) -> dict[str, Any]:
    """Return a record's members; none where another release wrote it."""
    with suppress(DamagedRecord):
        return members_of(record)
    return {}
