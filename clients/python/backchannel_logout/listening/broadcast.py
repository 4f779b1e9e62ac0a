"""A listener in broadcast mode, which reads each event, from a position that may be stored."""

import random
import time
from collections import deque
from typing import Any

from backchannel_logout.contract.event import stream_id
from backchannel_logout.contract.gap import Gap, GapReason
from backchannel_logout.contract.readers import HASH_SECONDS, ReaderKind
from backchannel_logout.listening.inflight import Delivery
from backchannel_logout.listening.loop import ListenerLoop
from backchannel_logout.listening.options import Options
from backchannel_logout.redis.pipeline import Command
from backchannel_logout.redis.primary import Primary, without_errors

_BATCH = 256
"""The maximum number of events in progress."""

_START = "0-0"
"""The position before every entry."""


class BroadcastLoop(ListenerLoop):
    """Reads on from a position, and checks each time that its entry still exists.

    If it does, no later entry was trimmed, since trimming removes the oldest first, and Redis has
    lost nothing. An `XREAD` alone would not show either, and would wait forever behind a stream
    that became shorter.
    """

    kind = ReaderKind.BROADCAST

    def __init__(self, primary: Primary, options: Options) -> None:
        super().__init__(primary, options)
        self._position_key = self.keys.position(options.name) if options.name else None
        self._read_to: str | None = None
        self._position: str | None = None
        self._saved: str | None = None
        self._more = True  # there may be more to read at once
        # In the order of the stream, with the position after each.
        self._order: deque[tuple[Delivery, str]] = deque()

    @property
    def position(self) -> str | None:
        return self._position

    def acknowledged(self, delivery: Delivery) -> None:
        super().acknowledged(delivery)
        # At once, or thousands of deliveries would be kept until the position is read.
        while self._order and self._order[0][0].settled:
            self._position = self._order.popleft()[1]

    async def prepare(self) -> Delivery | None:
        if self._read_to is None:
            await self._begin()
        return None

    async def _begin(self) -> None:
        """Begin where the last process of this name was, else at the end of the stream."""
        commands: list[Command] = [("XREVRANGE", self.keys.events, "+", "-", "COUNT", 1)]
        if self._position_key:
            commands.append(("GET", self._position_key))
        newest, *stored = await self.primary.call(*commands)
        position = _parse_position(stored[0]) if stored else None
        if position is not None:
            self._read_to = self._position = self._saved = position
            return
        self._read_to = newest[0][0].decode() if newest else _START
        self._add(Delivery(Gap(GapReason.BEGAN)), self._read_to)

    def _add(self, delivery: Delivery, position: str) -> None:
        self._order.append((delivery, position))
        if isinstance(delivery.item, Gap):
            self.inflight.gaps.append(delivery)
        else:
            self.inflight.fresh.append(delivery)

    async def read(self) -> None:
        position, events = self._read_to or _START, self.keys.events
        block: Command = ()
        if self.options.poll_every is None:
            block = ("BLOCK", max(1, int(self.max_wait * 1000)))
        else:
            await self.acknowledge()  # `exchange` includes it
            if not self._more:
                await self._pace(self.options.poll_every)
        commands: list[Command] = [
            ("XREAD", "COUNT", _BATCH, *block, "STREAMS", events, position),
            ("XRANGE", events, position, position, "COUNT", 1),
        ]
        # Only a read that blocks needs its own connection.
        replies = await (self.exchange(commands) if block else self.primary.run(commands))
        batch, entry_at_position = without_errors(replies)
        entries: list[Any] = batch[0][1] if batch else []
        if not entry_at_position and position != _START:
            await self._report_gap(position, bool(entries))
        self._more = len(entries) == _BATCH
        for entry_id, fields in entries:
            self._read_to = entry_id.decode()
            delivery = Delivery.of_entry(self._read_to, fields)
            self._order.append((delivery, self._read_to))
            self.inflight.fresh.append(delivery)

    async def _pace(self, seconds: float) -> None:
        """Wait here instead of in Redis."""
        pause = seconds * random.uniform(0.8, 1.2)  # noqa: S311  only spreads load
        await self.pause(self.inflight.seconds_until_due(time.monotonic(), pause))

    async def _report_gap(self, position: str, has_entries: bool) -> None:
        """The entry at the position is gone: read on behind a gap."""
        reason = GapReason.TRIMMED
        after = position
        if not has_entries:
            events = self.keys.events
            [newest] = await self.primary.call(("XREVRANGE", events, "+", "-", "COUNT", 1))
            after = newest[0][0].decode() if newest else _START
            if stream_id(after) > stream_id(position):
                return  # added since, and read with the next command
            reason = GapReason.LOST
        self._read_to = after
        self._add(Delivery(Gap(reason, position)), after)

    async def begin_retry(self, delivery: Delivery) -> bool:
        delivery.tries += 1
        return True

    def settle(self, delivery: Delivery) -> list[Command]:  # noqa: ARG002
        """No commands: `position` is stored instead."""
        return []

    def after_outage(self) -> None:
        """Nothing to do: the next read checks the position."""

    async def every_second(self) -> None:
        """Store the position."""
        position = self.position
        if self._position_key and position is not None and position != self._saved:
            await self.primary.call(("SET", self._position_key, position, "EX", HASH_SECONDS))
            self._saved = position

    async def close(self) -> None:
        await super().close()
        await self.every_second()


def _parse_position(stored: bytes | None) -> str | None:
    """A stored position; None if there is none, or it cannot be parsed."""
    try:
        stream_id(stored or b"")
    except ValueError:
        return None
    return (stored or b"").decode()
