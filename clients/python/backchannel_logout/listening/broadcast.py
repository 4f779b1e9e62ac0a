"""A listener in broadcast mode: it sees each event, from a position that may be remembered."""

import random
import time
from collections import deque
from typing import Any

from backchannel_logout.contract.event import stream_id
from backchannel_logout.contract.gap import Gap, GapReason
from backchannel_logout.contract.readers import HASH_SECONDS, ReaderKind
from backchannel_logout.listening.deliveries import Delivery
from backchannel_logout.listening.loop import ListenerLoop
from backchannel_logout.listening.options import Options
from backchannel_logout.redis.pipeline import Command
from backchannel_logout.redis.primary import Primary, without_errors

_BATCH = 256
"""Events in hand at most."""

_START = "0-0"
"""The position before every entry."""


class BroadcastLoop(ListenerLoop):
    """Reads on from a position, and looks each time whether its entry is still there.

    Where it is, nothing after it was trimmed, for trimming takes the oldest first, and Redis has
    lost nothing. An `XREAD` alone would say neither, and would wait for ever behind a stream
    that is shorter than it was.
    """

    kind = ReaderKind.BROADCAST

    def __init__(self, primary: Primary, options: Options) -> None:
        super().__init__(primary, options)
        self._stored = self.keys.position(options.name) if options.name else None
        self._read_to: str | None = None
        self._position: str | None = None
        self._saved: str | None = None
        self._more = True  # there may be more to read at once
        # In the order of the stream, with the position after each.
        self._order: deque[tuple[Delivery, str]] = deque()

    @property
    def position(self) -> str | None:
        return self._position

    def told(self, delivery: Delivery) -> None:
        super().told(delivery)
        # At once: until somebody asks for the position, thousands would be held.
        while self._order and self._order[0][0].settled:
            self._position = self._order.popleft()[1]

    async def prepare(self) -> Delivery | None:
        if self._read_to is None:
            await self._begin()
        return None

    async def _begin(self) -> None:
        """From where the last process of this name was, else from what comes now on."""
        asked: list[Command] = [("XREVRANGE", self.keys.events, "+", "-", "COUNT", 1)]
        if self._stored:
            asked.append(("GET", self._stored))
        newest, *stored = await self.primary.ask(*asked)
        remembered = _position(stored[0]) if stored else None
        if remembered is not None:
            self._read_to = self._position = self._saved = remembered
            return
        self._read_to = newest[0][0].decode() if newest else _START
        self._add(Delivery(Gap(GapReason.BEGAN)), self._read_to)

    def _add(self, delivery: Delivery, position: str) -> None:
        self._order.append((delivery, position))
        (self.hand.gaps if isinstance(delivery.item, Gap) else self.hand.fresh).append(delivery)

    async def read(self) -> None:
        position, events = self._read_to or _START, self.keys.events
        wait: Command = ()
        if self.options.poll_every is None:
            wait = ("BLOCK", max(1, int(self.patience * 1000)))
        else:
            await self.tell()  # `converse` does so by itself
            if not self._more:
                await self._pace(self.options.poll_every)
        commands: list[Command] = [
            ("XREAD", "COUNT", _BATCH, *wait, "STREAMS", events, position),
            ("XRANGE", events, position, position, "COUNT", 1),
        ]
        # Only what waits needs a connection of its own.
        answers = await (self.converse(commands) if wait else self.primary.run(commands))
        batch, there = without_errors(answers)
        entries: list[Any] = batch[0][1] if batch else []
        if not there and position != _START:
            await self._miss(position, bool(entries))
        self._more = len(entries) == _BATCH
        for entry_id, fields in entries:
            self._read_to = entry_id.decode()
            delivery = Delivery.of_entry(self._read_to, fields)
            self._order.append((delivery, self._read_to))
            self.hand.fresh.append(delivery)

    async def _pace(self, pace: float) -> None:
        """Wait in place of Redis."""
        pause = pace * random.uniform(0.8, 1.2)  # noqa: S311  # only spreads load
        await self.pause(self.hand.patience(time.monotonic(), pause))

    async def _miss(self, position: str, read_on: bool) -> None:
        """The entry of the position is not there any more: read on behind a gap."""
        reason = GapReason.TRIMMED
        after = position
        if not read_on:
            [newest] = await self.primary.ask(("XREVRANGE", self.keys.events, "+", "-", "COUNT", 1))
            after = newest[0][0].decode() if newest else _START
            if stream_id(after) > stream_id(position):
                return  # added since, and read with the next command
            reason = GapReason.LOST
        self._read_to = after
        self._add(Delivery(Gap(reason, position)), after)

    async def begin_again(self, delivery: Delivery) -> bool:
        delivery.tries += 1
        return True

    def settle(self, delivery: Delivery) -> list[Command]:  # noqa: ARG002
        """Nothing: `position` tells."""
        return []

    def after_outage(self) -> None:
        """Nothing: the next read looks whether its position is still there."""

    async def look_after(self) -> None:
        """Remember the position."""
        position = self.position
        if self._stored and position is not None and position != self._saved:
            await self.primary.ask(("SET", self._stored, position, "EX", HASH_SECONDS))
            self._saved = position

    async def close(self) -> None:
        await super().close()
        await self.look_after()


def _position(stored: bytes | None) -> str | None:
    """A remembered position; None where there is none, or none that can be read."""
    try:
        stream_id(stored or b"")
    except ValueError:
        return None
    return (stored or b"").decode()
