"""What replicas of a group that have ended left behind: events in hand, and gaps."""

import time
from dataclasses import dataclass, field
from typing import Any

import redis

from backchannel_logout.contract.gap import Gap
from backchannel_logout.listening.options import Options
from backchannel_logout.redis.primary import Primary

# A consumer that took its leave, and has been silent for so long, has nothing under way.
_GONE_MS = 3000

# Its name goes from the group after so long without a sign, if nothing is pending for it.
_FORGOTTEN_MS = 3_600_000

# More than a replica ever has in hand.
_AT_MOST = 500


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An event that was left behind: delivered ``count`` times, and at ``seen`` untouched for
    ``idle`` milliseconds."""

    entry_id: str
    idle: int
    count: int
    seen: float

    def still(self) -> int:
        """The milliseconds for which nobody has touched it, if nobody has since."""
        return self.idle + int((time.monotonic() - self.seen) * 1000)


@dataclass(slots=True)
class GroupScan:
    """What a look around has found."""

    left: list[Abandoned] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """Left behind, and trimmed since."""
    notes: dict[bytes, Gap] = field(default_factory=dict)
    """Gaps that a dead replica has noted and not dealt with."""
    mine: int = 0
    """How many events Redis has as pending for this process."""
    lost: bool = False
    """Events went with a consumer that was forgotten."""


class Takeover:
    """Looks around in a group. Nothing is claimed here: a Redis from 7.0 on forgets what was
    trimmed when it is claimed, and says nothing."""

    def __init__(self, primary: Primary, options: Options, group: str) -> None:
        self._primary = primary
        self._options = options
        self._keys = options.keys
        self._group = group

    async def look(self, *, room: bool) -> GroupScan:
        """With ``room``, also for events."""
        found = GroupScan()
        [answer, notes] = await self._primary.ask(
            ("XINFO", "CONSUMERS", self._keys.events, self._group),
            ("HGETALL", self._keys.gaps(self._group)),
        )
        me = self._options.reader.encode()
        alive = {me}  # names are bytes: others may call themselves what they like
        for consumer in map(pairs, answer):
            name, idle = consumer[b"name"], consumer[b"idle"]
            if name == me:
                found.mine = consumer[b"pending"]
            elif not await self._has_ended(name, idle):
                alive.add(name)
            elif consumer[b"pending"]:
                if room and not found.left:
                    await self._look_at(name, idle, found)
            elif idle > _FORGOTTEN_MS:
                await self._forget(name, found)
        for note, text in zip(notes[::2], notes[1::2], strict=True):
            if note.rpartition(b"/")[0] not in alive:
                found.notes[note] = Gap.from_json(text)
        return found

    async def _has_ended(self, name: bytes, idle: int) -> bool:
        """Silent for too long, or with a word of leave: its report is gone."""
        if idle > self._options.take_over_after * 1000:
            return True
        if idle <= _GONE_MS:
            return False
        [reports] = await self._primary.ask(("HEXISTS", self._keys.readers, name))
        return not reports

    async def _look_at(self, name: bytes, idle: int, found: GroupScan) -> None:
        events = self._keys.events
        [pending] = await self._primary.ask(
            ("XPENDING", events, self._group, "-", "+", _AT_MOST, name)
        )
        seen = time.monotonic()
        entries = await self._primary.ask(
            *(("XRANGE", events, one[0], one[0], "COUNT", 1) for one in pending)
        )
        for (entry_id, _, idle_for, count), entry in zip(pending, entries, strict=True):
            if entry:
                found.left.append(Abandoned(entry_id.decode(), min(idle, idle_for), count, seen))
            else:
                found.gone.append(entry_id.decode())

    async def _forget(self, name: bytes, found: GroupScan) -> None:
        [lost] = await self._primary.ask(
            ("XGROUP", "DELCONSUMER", self._keys.events, self._group, name)
        )
        found.lost |= bool(lost)


def pairs(flat: list[Any]) -> dict[bytes, Any]:
    """Names and values in turn, as Redis tells of itself."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def no_group(answer: Any) -> bool:
    """Whether Redis says that there is no such group, or no stream."""
    return isinstance(answer, redis.ResponseError) and str(answer).startswith("NOGROUP")


def claimed_entries(answer: list[Any]) -> list[Any]:
    """Of a claim; Redis 6.2 answers nil for an entry that was trimmed."""
    return [entry for entry in answer if entry and entry[1] is not None]
