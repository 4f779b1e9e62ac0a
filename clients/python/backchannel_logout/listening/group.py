"""A listener in group mode: each event is handled by one replica, at least once.

Redis keeps the group's position and who has what in hand; nothing of it is in this process alone:

* Delivered and not acknowledged is *pending*. What a process that has ended leaves pending, the
  others take over one by one, each just before it is tried, so that Redis' counter of deliveries
  says how often it was tried, also where it has killed every process that tried it.
* A process lives for as long as Redis hears of it each second; how long it has an event in hand
  does not matter. The events in hand are never claimed anew to show that: a Redis from 7.0 on
  forgets, at a claim, what was trimmed meanwhile.
* A gap is noted in Redis before it is handed over, and struck out when it has been handled.
"""

import itertools
import time
from collections import deque
from typing import Any

from backchannel_logout.contract.event import stream_id
from backchannel_logout.contract.gap import Gap, GapReason
from backchannel_logout.contract.readers import HASH_SECONDS, ReaderKind
from backchannel_logout.listening.deliveries import Delivery
from backchannel_logout.listening.loop import ListenerLoop
from backchannel_logout.listening.options import Options
from backchannel_logout.listening.takeover import (
    Abandoned,
    Takeover,
    claimed_entries,
    no_group,
    pairs,
)
from backchannel_logout.redis.pipeline import Command
from backchannel_logout.redis.primary import Primary, without_errors

# Events in hand at most. It begins small and grows while batches are worked off at once, so that
# slow handlers do not hold what another replica could handle.
_FIRST_BATCH = 16
_LARGEST_BATCH = 256
_QUICK_SECONDS = 0.1
_SLOW_SECONDS = 1.0

_SCAN_SECONDS = 5.0

# Asks for what is pending after the last possible id: nothing. Redis notes that we live. (The
# greatest id of all would mean ">", and fetch.)
_NOTHING_PENDING = "18446744073709551615-0"


class GroupLoop(ListenerLoop):
    """See the module."""

    kind = ReaderKind.GROUP

    def __init__(self, primary: Primary, options: Options) -> None:
        super().__init__(primary, options)
        self.group = options.name or ""
        self._notes = self.keys.gaps(self.group)
        self._takeover = Takeover(primary, options, self.group)
        self._number = itertools.count()
        self._last: str | None = None  # the group's last delivered id, as far as we know
        self._told_beginning = False
        self._told_empty = (0, 0)
        self._owed: list[Gap] = []
        self._mine: set[str] = set()  # in hand, until Redis knows that it is acknowledged
        self._look_at_mine = False
        self._left: deque[Abandoned] = deque()
        self._telling_gone: set[str] = set()
        self._adopted: set[bytes] = set()
        self._handled: str | None = None
        self._batch = _FIRST_BATCH
        self._batch_at = time.monotonic()
        self._scan_from = time.monotonic() + min(_SCAN_SECONDS, options.take_over_after) / 2

    @property
    def position(self) -> str | None:
        return self._handled if self._mine else self._last

    # -- reading ---------------------------------------------------------------------------

    async def read(self) -> None:
        self._adapt()
        block = max(1, int(self.patience * 1000))
        commands: list[Command] = [
            ("XINFO", "GROUPS", self.keys.events),
            (
                "XREADGROUP", "GROUP", self.group, self.options.reader, "COUNT", self._batch,
                "BLOCK", block, "STREAMS", self.keys.events, ">",
            ),
            ("XINFO", "STREAM", self.keys.events),
        ]  # fmt: skip
        try:
            groups, batch, stream = await self.converse(commands)
            if not no_group(batch):
                without_errors([groups, batch, stream])
        except BaseException:
            self._look_at_mine = True  # the answer that was lost may have held events
            raise
        if no_group(batch):
            await self._make_group()
            return
        entries = batch[0][1] if batch else []
        for entry_id, fields in entries:
            self._take(Delivery.of_entry(entry_id.decode(), fields))
        self._batch_at = time.monotonic()
        self._compare(groups, [entry[0] for entry in entries], stream)

    def _take(self, delivery: Delivery) -> None:
        self._mine.update(delivery.acks)
        self.hand.fresh.append(delivery)

    def told(self, delivery: Delivery) -> None:
        super().told(delivery)
        self._mine.difference_update(delivery.acks)
        self._telling_gone.difference_update(delivery.acks)
        self._adopted.discard(delivery.note or b"")

    def _adapt(self) -> None:
        """A larger batch where the last one was worked off at once, a smaller where not."""
        took = time.monotonic() - self._batch_at
        if took > _SLOW_SECONDS:
            self._batch = max(1, self._batch // 2)
        elif took < _QUICK_SECONDS:
            self._batch = min(_LARGEST_BATCH, self._batch * 2)

    def _compare(self, groups: Any, ids: list[bytes], stream: Any) -> None:
        """Whether the stream was trimmed past the group's position of just before the read.

        Trimming takes the oldest first: while one entry at or before the position is left,
        nothing after it has gone. Otherwise something may have.
        """
        found = [one for one in map(pairs, groups) if one[b"name"] == self.group.encode()]
        if not found:
            return  # made by another replica just before the read
        before = found[0][b"last-delivered-id"]
        state = pairs(stream)
        first = state[b"first-entry"]
        newest = stream_id(state[b"last-generated-id"])
        position = stream_id(before)
        if ids:
            gone = first is None or stream_id(first[0]) > position
        else:
            gone = first is None and newest > position and newest != self._told_empty
            self._told_empty = newest if gone else self._told_empty
        begins = position == (0, 0) and self._told_beginning
        if gone and not begins:
            self._owed.append(Gap(GapReason.TRIMMED, before.decode()))
        self._last = (ids[-1] if ids else before).decode()

    async def _make_group(self) -> None:
        """The group is not there: at the beginning, or because Redis has lost it.

        Again from the last known position if the stream still has it, else from its start.
        """
        known = self._last
        events, group = self.keys.events, self.group
        [newest, there] = await self.primary.ask(
            ("XREVRANGE", events, "+", "-", "COUNT", 1),
            ("XRANGE", events, known or "0-0", known or "0-0", "COUNT", 1),
        )
        if known is not None:
            start = known if there else "0-0"
            await self._note(Gap(GapReason.LOST, known))
        else:
            start = newest[0][0] if newest and self.options.start == "now" else "0-0"
            await self._note(Gap(GapReason.BEGAN))
        [made] = await self.primary.run([("XGROUP", "CREATE", events, group, start, "MKSTREAM")])
        if isinstance(made, Exception) and not str(made).startswith("BUSYGROUP"):
            raise made
        self._told_beginning = True

    # -- gaps ------------------------------------------------------------------------------

    async def _note(self, gap: Gap) -> None:
        """Note a gap in Redis, so that another replica hands it over if this one dies."""
        field = f"{self.options.reader}/{next(self._number)}".encode()
        await self.primary.ask(
            ("HSET", self._notes, field, gap.to_json()), ("EXPIRE", self._notes, HASH_SECONDS)
        )
        self.hand.gaps.append(Delivery(gap, note=field))

    async def prepare(self) -> Delivery | None:
        while self._owed:
            await self._note(self._owed[0])
            del self._owed[0]
        if self._look_at_mine:
            await self._find_mine()
        while self._left and not self.hand.gaps:
            taken = await self._take_over(self._left[0])
            self._left.popleft()
            if taken is not None:
                return taken
        return None

    def settle(self, delivery: Delivery) -> list[Command]:
        commands: list[Command] = []
        if delivery.acks:
            commands.append(("XACK", self.keys.events, self.group, *delivery.acks))
            self._handled = delivery.acks[-1]
        if delivery.note is not None:
            commands.append(("HDEL", self._notes, delivery.note))
        return commands

    def dropped(self, delivery: Delivery) -> None:
        super().dropped(delivery)
        self._mine.difference_update(delivery.acks)

    # -- delivered before ------------------------------------------------------------------

    async def begin_again(self, delivery: Delivery) -> bool:
        """Count one more try, in Redis, before it begins. An entry that was trimmed meanwhile is
        still in hand and is tried; Redis is not asked to claim it, for it would forget it."""
        if isinstance(delivery.item, Gap):
            delivery.tries += 1
            return True
        [entry_id] = delivery.acks
        if await self._exists(entry_id):
            [claimed] = await self.primary.ask(self._claim(entry_id, 0))
            if not claimed_entries(claimed):
                return False
        delivery.tries += 1
        return True

    async def _take_over(self, left: Abandoned) -> Delivery | None:
        """Claim what a dead process left; None where another replica was faster."""
        try:
            [there, claimed] = await self.primary.ask(
                ("XRANGE", self.keys.events, left.entry_id, left.entry_id, "COUNT", 1),
                self._claim(left.entry_id, left.still()),
            )
        except BaseException:
            self._look_at_mine = True  # it may be ours now
            raise
        entries = claimed_entries(claimed)
        if not entries:
            if not there:
                self._tell_gone([left.entry_id])
            return None
        [[entry_id, fields]] = entries
        delivery = Delivery.of_entry(entry_id.decode(), fields, tries=left.count + 1, again=True)
        self._mine.update(delivery.acks)
        if delivery.tries > self.options.tries:
            delivery.tries = left.count
            delivery.error = delivery.error or "ended the process"
            self.buried(delivery)
            return None
        return delivery

    def _claim(self, entry_id: str, idle: int) -> Command:
        return (
            "XCLAIM", self.keys.events, self.group, self.options.reader, idle, entry_id
        )  # fmt: skip

    async def _exists(self, entry_id: str) -> bool:
        [there] = await self.primary.ask(("XRANGE", self.keys.events, entry_id, entry_id))
        return bool(there)

    async def _find_mine(self) -> None:
        """What Redis has delivered to us, in an answer that got lost."""
        [pending] = await self.primary.run(
            [("XPENDING", self.keys.events, self.group, "-", "+", 2000, self.options.reader)]
        )
        if no_group(pending):
            pending = []
        without_errors([pending])
        lost = {one[0].decode(): one[3] for one in pending if one[0].decode() not in self._mine}
        answers = await self.primary.ask(
            *(("XRANGE", self.keys.events, entry_id, entry_id) for entry_id in lost)
        )
        for (entry_id, count), found in zip(lost.items(), answers, strict=True):
            if found:
                self._take(Delivery.of_entry(entry_id, found[0][1], tries=count, again=count > 1))
        self._tell_gone([one for one, found in zip(lost, answers, strict=True) if not found])
        self._look_at_mine = False

    def _tell_gone(self, entry_ids: list[str]) -> None:
        """Entries that were trimmed before anybody could handle them: one gap for all."""
        gone = tuple(one for one in entry_ids if one not in self._telling_gone)
        if gone:
            self._telling_gone.update(gone)
            self._mine.update(gone)
            self.hand.gaps.append(Delivery(Gap(GapReason.TRIMMED, gone[0]), acks=gone))

    def after_outage(self) -> None:
        """A new primary does not know how lately the others were there: let them show."""
        self._scan_from = time.monotonic() + self.options.take_over_after / 2

    # -- each second -----------------------------------------------------------------------

    async def look_after(self) -> None:
        if self._last is None:
            return  # there may be no group yet
        events = self.keys.events
        [sign] = await self.primary.run(
            [
                (
                    "XREADGROUP", "GROUP", self.group, self.options.reader, "COUNT", 1,
                    "STREAMS", events, _NOTHING_PENDING,
                )
            ]
        )  # fmt: skip
        if no_group(sign):
            return  # the next read makes it
        without_errors([sign])
        if time.monotonic() >= self._scan_from:
            self._scan_from = time.monotonic() + min(
                _SCAN_SECONDS, self.options.take_over_after / 2
            )
            await self._look_around()

    async def _look_around(self) -> None:
        found = await self._takeover.look(room=not self._left)
        # A read that we gave up can have been answered after we looked.
        self._look_at_mine |= found.mine > len(self._mine)
        self._left.extend(found.left)
        self._tell_gone(found.gone)
        if found.lost:
            self._owed.append(Gap(GapReason.LOST, self._last))
        for note, gap in found.notes.items():
            if note not in self._adopted:
                self._adopted.add(note)
                self.hand.gaps.append(Delivery(gap, note=note, again=True))
