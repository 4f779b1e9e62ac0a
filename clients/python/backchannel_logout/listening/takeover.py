"""What dead replicas of a group left behind: events in progress, and gaps."""

import time
from dataclasses import dataclass, field
from typing import Any

import redis

from backchannel_logout.contract.gap import Gap
from backchannel_logout.listening.options import Options
from backchannel_logout.redis.primary import Primary

# A consumer that said farewell and has been silent for this long has nothing in progress.
_ENDED_MS = 3000

# A silent consumer without pending events is removed from the group after this long.
_FORGOTTEN_MS = 3_600_000

# More than a replica ever has in progress.
_MAX_PENDING = 500


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An event that was left behind: delivered ``count`` times, and at ``seen`` untouched for
    ``idle`` milliseconds."""

    entry_id: str
    idle: int
    count: int
    seen: float

    def idle_now(self) -> int:
        """The milliseconds without a touch, if there was none since."""
        return self.idle + int((time.monotonic() - self.seen) * 1000)


@dataclass(slots=True)
class GroupScan:
    """The result of one scan of the group."""

    abandoned: list[Abandoned] = field(default_factory=list)
    trimmed: list[str] = field(default_factory=list)
    """Left behind, and trimmed since."""
    notes: dict[bytes, Gap] = field(default_factory=dict)
    """Gaps that a dead replica has noted and not handled."""
    mine: int = 0
    """How many events are pending for this process, in Redis."""
    lost: bool = False
    """Events were lost with a consumer that was removed."""


class Takeover:
    """Scans a group, without claiming anything: since 7.0 Redis silently forgets a trimmed entry
    when it is claimed."""

    def __init__(self, primary: Primary, options: Options, group: str) -> None:
        self._primary = primary
        self._options = options
        self._keys = options.keys
        self._group = group

    async def scan(self, *, events: bool) -> GroupScan:
        """With ``events``, also for events of one dead replica."""
        scan = GroupScan()
        [consumers, notes] = await self._primary.call(
            ("XINFO", "CONSUMERS", self._keys.events, self._group),
            ("HGETALL", self._keys.gaps(self._group)),
        )
        me = self._options.reader.encode()
        alive = {me}  # names are bytes: other programs may use any name
        for consumer in map(pairs, consumers):
            name, idle = consumer[b"name"], consumer[b"idle"]
            if name == me:
                scan.mine = consumer[b"pending"]
            elif not await self._has_ended(name, idle):
                alive.add(name)
            elif consumer[b"pending"]:
                if events and not scan.abandoned:
                    await self._scan_consumer(name, idle, scan)
            elif idle > _FORGOTTEN_MS:
                await self._remove(name, scan)
        for note, text in zip(notes[::2], notes[1::2], strict=True):
            if note.rpartition(b"/")[0] not in alive:
                scan.notes[note] = Gap.from_json(text)
        return scan

    async def _has_ended(self, name: bytes, idle: int) -> bool:
        """Silent for too long, or with a farewell: its report is gone."""
        if idle > self._options.take_over_after * 1000:
            return True
        if idle <= _ENDED_MS:
            return False
        [reports] = await self._primary.call(("HEXISTS", self._keys.readers, name))
        return not reports

    async def _scan_consumer(self, name: bytes, idle: int, scan: GroupScan) -> None:
        events = self._keys.events
        [pending] = await self._primary.call(
            ("XPENDING", events, self._group, "-", "+", _MAX_PENDING, name)
        )
        seen = time.monotonic()
        entries = await self._primary.call(
            *(("XRANGE", events, entry_id, entry_id, "COUNT", 1) for entry_id, *_ in pending)
        )
        for (entry_id, _, idle_for, count), entry in zip(pending, entries, strict=True):
            if entry:
                idle_since = min(idle, idle_for)
                scan.abandoned.append(Abandoned(entry_id.decode(), idle_since, count, seen))
            else:
                scan.trimmed.append(entry_id.decode())

    async def _remove(self, name: bytes, scan: GroupScan) -> None:
        [lost] = await self._primary.call(
            ("XGROUP", "DELCONSUMER", self._keys.events, self._group, name)
        )
        scan.lost |= bool(lost)


def pairs(flat: list[Any]) -> dict[bytes, Any]:
    """Names and values in turn, as in a reply to ``XINFO``, as a dict."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def is_no_group(reply: Any) -> bool:
    """Whether it is the error for a group or a stream that does not exist."""
    return isinstance(reply, redis.ResponseError) and str(reply).startswith("NOGROUP")


def claimed_entries(reply: list[Any]) -> list[Any]:
    """The entries of a claim; Redis 6.2 replies nil for one that was trimmed."""
    return [entry for entry in reply if entry and entry[1] is not None]
