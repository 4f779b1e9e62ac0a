"""A listener in group mode: each event is handled by one replica, at least once.

Redis keeps the group's position and which process has which event in progress; none of this exists
only in a process:

* A delivered event without an acknowledgement is *pending*. Other replicas take over the pending
  events of a dead process one by one, each just before its try, so that Redis's delivery counter
  counts the tries, also when the event killed every process that tried it.
* A process is alive while it sends a command each second; how long it works on an event does not
  matter. Events in progress are never claimed again to show that it lives: since 7.0 Redis forgets
  a trimmed entry at a claim.
* A gap is stored in Redis before it is delivered, and removed when it was handled.
"""

import itertools
import time
from collections import deque
from typing import Any

from backchannel_logout.contract.gap import Gap, GapReason
from backchannel_logout.contract.readers import HASH_SECONDS, ReaderKind
from backchannel_logout.listening.batch_size import BatchSize
from backchannel_logout.listening.inflight import Delivery
from backchannel_logout.listening.loop import ListenerLoop
from backchannel_logout.listening.options import Options
from backchannel_logout.listening.takeover import (
    Abandoned,
    Takeover,
    claimed_entries,
    is_no_group,
)
from backchannel_logout.listening.trimming import TrimmingCheck
from backchannel_logout.redis.pipeline import Command
from backchannel_logout.redis.primary import Primary, without_errors

_SCAN_SECONDS = 5.0

# Reads the pending entries after the last possible id: none. Redis notes that this consumer is
# alive. (The greatest id of all would mean ">", which fetches.)
_NOTHING_PENDING = "18446744073709551615-0"


class GroupLoop(ListenerLoop):
    """Reads as one consumer of the group; see the module."""

    kind = ReaderKind.GROUP

    def __init__(self, primary: Primary, options: Options) -> None:
        super().__init__(primary, options)
        self.group = options.name or ""
        self._notes = self.keys.gaps(self.group)
        self._takeover = Takeover(primary, options, self.group)
        self._number = itertools.count()
        self._last: str | None = None  # the group's last delivered id, as far as known
        self._trimming = TrimmingCheck(self.group)
        self._gaps_to_note: list[Gap] = []
        self._mine: set[str] = set()  # in progress, until the acknowledgement has arrived
        self._must_recover = False
        self._abandoned: deque[Abandoned] = deque()
        self._reporting_trimmed: set[str] = set()
        self._adopted: set[bytes] = set()
        self._handled: str | None = None
        self._batch_size = BatchSize()
        self._scan_from = time.monotonic() + min(_SCAN_SECONDS, options.take_over_after) / 2

    @property
    def position(self) -> str | None:
        return self._handled if self._mine else self._last

    # -- reading ---------------------------------------------------------------------------

    async def read(self) -> None:
        count = self._batch_size.adapt()
        block = max(1, int(self.max_wait * 1000))
        commands: list[Command] = [
            ("XINFO", "GROUPS", self.keys.events),
            (
                "XREADGROUP", "GROUP", self.group, self.options.reader, "COUNT", count,
                "BLOCK", block, "STREAMS", self.keys.events, ">",
            ),
            ("XINFO", "STREAM", self.keys.events),
        ]  # fmt: skip
        try:
            groups, batch, stream = await self.exchange(commands)
            if not is_no_group(batch):
                without_errors([groups, batch, stream])
        except BaseException:
            self._must_recover = True  # the lost reply may have delivered events
            raise
        if is_no_group(batch):
            await self._create_group()
            return
        entries = batch[0][1] if batch else []
        for entry_id, fields in entries:
            self._take(Delivery.of_entry(entry_id.decode(), fields))
        self._batch_size.has_read()
        self._check_trimming(groups, [entry[0] for entry in entries], stream)

    def _take(self, delivery: Delivery) -> None:
        self._mine.update(delivery.acks)
        self.inflight.fresh.append(delivery)

    def acknowledged(self, delivery: Delivery) -> None:
        super().acknowledged(delivery)
        self._mine.difference_update(delivery.acks)
        self._reporting_trimmed.difference_update(delivery.acks)
        self._adopted.discard(delivery.note or b"")

    def _check_trimming(self, groups: list[Any], ids: list[bytes], stream: list[Any]) -> None:
        before = self._trimming.position(groups)
        if before is None:
            return  # another replica created the group just before the read
        if self._trimming.is_past(before, ids, stream):
            self._gaps_to_note.append(Gap(GapReason.TRIMMED, before.decode()))
        self._last = (ids[-1] if ids else before).decode()

    async def _create_group(self) -> None:
        """Create the group, which is missing at the beginning, or because Redis has lost it.

        It starts at the last known position if the stream still has it, else at its start.
        """
        known = self._last
        events, group = self.keys.events, self.group
        [newest, entry] = await self.primary.call(
            ("XREVRANGE", events, "+", "-", "COUNT", 1),
            ("XRANGE", events, known or "0-0", known or "0-0", "COUNT", 1),
        )
        if known is not None:
            start = known if entry else "0-0"
            await self._note(Gap(GapReason.LOST, known))
        else:
            start = newest[0][0] if newest and self.options.start == "now" else "0-0"
            await self._note(Gap(GapReason.BEGAN))
        [created] = await self.primary.run([("XGROUP", "CREATE", events, group, start, "MKSTREAM")])
        if isinstance(created, Exception) and not str(created).startswith("BUSYGROUP"):
            raise created
        self._trimming.reported_beginning = True

    # -- gaps ------------------------------------------------------------------------------

    async def _note(self, gap: Gap) -> None:
        """Store a gap in Redis, so that another replica delivers it if this one dies."""
        field = f"{self.options.reader}/{next(self._number)}".encode()
        await self.primary.call(
            ("HSET", self._notes, field, gap.to_json()), ("EXPIRE", self._notes, HASH_SECONDS)
        )
        self.inflight.gaps.append(Delivery(gap, note=field))

    async def prepare(self) -> Delivery | None:
        while self._gaps_to_note:
            await self._note(self._gaps_to_note[0])
            del self._gaps_to_note[0]
        if self._must_recover:
            await self._recover()
        while self._abandoned and not self.inflight.gaps:
            delivery = await self._take_over(self._abandoned[0])
            self._abandoned.popleft()
            if delivery is not None:
                return delivery
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

    async def begin_retry(self, delivery: Delivery) -> bool:
        """Count the try in Redis before it begins. A trimmed entry is still in progress and is
        tried, without a claim, at which Redis would forget it."""
        if isinstance(delivery.item, Gap):
            delivery.tries += 1
            return True
        [entry_id] = delivery.acks
        [entries] = await self.primary.call(("XRANGE", self.keys.events, entry_id, entry_id))
        if entries:
            [claimed] = await self.primary.call(self._claim(entry_id, 0))
            if not claimed_entries(claimed):
                return False
        delivery.tries += 1
        return True

    async def _take_over(self, event: Abandoned) -> Delivery | None:
        """Claim an event of a dead process; None if another replica was faster."""
        try:
            [exists, claimed] = await self.primary.call(
                ("XRANGE", self.keys.events, event.entry_id, event.entry_id, "COUNT", 1),
                self._claim(event.entry_id, event.idle_now()),
            )
        except BaseException:
            self._must_recover = True  # it may be ours now
            raise
        entries = claimed_entries(claimed)
        if not entries:
            if not exists:
                self._report_trimmed([event.entry_id])
            return None
        [[entry_id, fields]] = entries
        delivery = Delivery.of_entry(entry_id.decode(), fields, tries=event.count + 1, again=True)
        self._mine.update(delivery.acks)
        if delivery.tries > self.options.tries:
            delivery.tries = event.count
            delivery.error = delivery.error or "ended the process"
            self.tried_too_often(delivery)
            return None
        return delivery

    def _claim(self, entry_id: str, idle: int) -> Command:
        return (
            "XCLAIM", self.keys.events, self.group, self.options.reader, idle, entry_id
        )  # fmt: skip

    async def _recover(self) -> None:
        """Find the events that Redis has delivered to this process in a reply that was lost."""
        [pending] = await self.primary.run(
            [("XPENDING", self.keys.events, self.group, "-", "+", 2000, self.options.reader)]
        )
        if is_no_group(pending):
            pending = []
        without_errors([pending])
        counts = {entry_id.decode(): count for entry_id, _, _, count in pending}
        lost = [entry_id for entry_id in counts if entry_id not in self._mine]
        replies = await self.primary.call(
            *(("XRANGE", self.keys.events, entry_id, entry_id) for entry_id in lost)
        )
        trimmed = []
        for entry_id, entries in zip(lost, replies, strict=True):
            tries = counts[entry_id]
            if entries:
                fields = entries[0][1]
                self._take(Delivery.of_entry(entry_id, fields, tries=tries, again=tries > 1))
            else:
                trimmed.append(entry_id)
        self._report_trimmed(trimmed)
        self._must_recover = False

    def _report_trimmed(self, entry_ids: list[str]) -> None:
        """Entries that were trimmed before they were handled: one gap for all of them."""
        trimmed = tuple(one for one in entry_ids if one not in self._reporting_trimmed)
        if trimmed:
            self._reporting_trimmed.update(trimmed)
            self._mine.update(trimmed)
            self.inflight.gaps.append(Delivery(Gap(GapReason.TRIMMED, trimmed[0]), acks=trimmed))

    def after_outage(self) -> None:
        """Delay the next scan: a new primary does not know yet which replicas are alive."""
        self._scan_from = time.monotonic() + self.options.take_over_after / 2

    # -- each second -----------------------------------------------------------------------

    async def every_second(self) -> None:
        if self._last is None:
            return  # there may be no group yet
        events, reader = self.keys.events, self.options.reader
        [reply] = await self.primary.run(
            [
                (
                    "XREADGROUP", "GROUP", self.group, reader, "COUNT", 1,
                    "STREAMS", events, _NOTHING_PENDING,
                )
            ]
        )  # fmt: skip
        if is_no_group(reply):
            return  # the next read creates it
        without_errors([reply])
        if time.monotonic() >= self._scan_from:
            pause = min(_SCAN_SECONDS, self.options.take_over_after / 2)
            self._scan_from = time.monotonic() + pause
            await self._scan()

    async def _scan(self) -> None:
        scan = await self._takeover.scan(events=not self._abandoned)
        # A read that was given up can have delivered events since.
        self._must_recover |= scan.mine > len(self._mine)
        self._abandoned.extend(scan.abandoned)
        self._report_trimmed(scan.trimmed)
        if scan.lost:
            self._gaps_to_note.append(Gap(GapReason.LOST, self._last))
        for note, gap in scan.notes.items():
            if note not in self._adopted:
                self._adopted.add(note)
                self.inflight.gaps.append(Delivery(gap, note=note, again=True))
