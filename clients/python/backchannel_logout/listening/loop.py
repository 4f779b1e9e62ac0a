"""The order of work that both modes of a listener share, and what they acknowledge to Redis."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from itertools import chain
from typing import Any

import redis

from backchannel_logout.contract.event import Event, stream_id
from backchannel_logout.contract.gap import Gap
from backchannel_logout.contract.readers import ReaderKind
from backchannel_logout.contract.receipts import MAX_RECEIPTS, Outcome, Receipt
from backchannel_logout.listening.dead_letters import dead_letter
from backchannel_logout.listening.deadlines import Deadlines
from backchannel_logout.listening.inflight import Delivery, InflightDeliveries
from backchannel_logout.listening.options import Options
from backchannel_logout.listening.upkeep import Upkeep
from backchannel_logout.redis.pipeline import Command
from backchannel_logout.redis.primary import Primary, without_errors

log = logging.getLogger("backchannel_logout")

# Redis replies to a blocked read as soon as there is an event. Without events a read ends after
# this many seconds, to notice a dead connection or a lost stream.
BLOCK_SECONDS = 1.0

# A read without a reply for this long: the server counts as dead.
TIMEOUT = BLOCK_SECONDS + 2.0

# Handled events are acknowledged with the next read, and at least this often while a batch is
# processed. A crash repeats what was not acknowledged.
_ACKNOWLEDGE_SECONDS = 0.1

# How long to wait after Redis has refused a dead letter.
_DEAD_LETTER_PAUSE = 5.0

_Settled = tuple[Delivery | None, list[Command]]


class ListenerLoop(ABC):
    """Reads the stream for one listener, and settles what the app has handled.

    `next` may raise any of `primary.FAULTS`, or be cancelled, at any await, and is then called
    again: nothing is removed from a list before its commands have succeeded.
    """

    kind: ReaderKind

    def __init__(self, primary: Primary, options: Options) -> None:
        self.primary = primary
        self.options = options
        self.keys = options.keys
        self.inflight = InflightDeliveries(options.retry_after)
        self._dead: list[Delivery] = []
        self._dead_letters_from = float("-inf")
        # Settled and not yet acknowledged, each with the commands for it.
        self._settled: list[_Settled] = []
        self._acknowledged_at = time.monotonic()
        self._acknowledge_now = False
        self.deadlines = Deadlines()
        self.upkeep = Upkeep(primary, options, self.kind)

    # -- what a mode implements ------------------------------------------------------------

    @abstractmethod
    async def read(self) -> None:
        """Wait for events, for a second at most, and put them into `inflight`."""

    @abstractmethod
    async def begin_retry(self, delivery: Delivery) -> bool:
        """Called before a retry; False if the delivery is not ours any more."""

    @abstractmethod
    async def prepare(self) -> Delivery | None:
        """The delivery that precedes every fresh one, if any."""

    @abstractmethod
    def settle(self, delivery: Delivery) -> list[Command]:
        """The commands that acknowledge it."""

    @property
    @abstractmethod
    def position(self) -> str | None:
        """The id of the last entry that was handled."""

    @abstractmethod
    async def every_second(self) -> None:
        """Called each second, also while a handler works."""

    @abstractmethod
    def after_outage(self) -> None:
        """Called when Redis answers again, perhaps another server."""

    # -- the order of work -----------------------------------------------------------------

    async def next(self) -> Delivery:
        """Wait for the next item."""
        while True:
            await self._store_dead_letters()
            now = time.monotonic()
            overdue = now - self._acknowledged_at > _ACKNOWLEDGE_SECONDS
            if self._settled and (self._acknowledge_now or overdue):
                await self.acknowledge()
            if (first := await self.prepare()) is not None:
                return first
            if self.inflight.gaps:
                return self.inflight.gaps.popleft()
            if (delivery := self.inflight.due(now)) is not None:
                ours = await self.begin_retry(delivery)
                self.inflight.remove_due()
                if ours:
                    return delivery
                self.dropped(delivery)
            elif self.inflight.fresh:
                return self.inflight.fresh.popleft()
            elif self.inflight.full:
                await self.pause(self.max_wait)
            else:
                await self.read()

    @property
    def max_wait(self) -> float:
        """How long a read may wait, in seconds."""
        return self.inflight.seconds_until_due(time.monotonic(), BLOCK_SECONDS)

    async def exchange(self, commands: list[Command]) -> list[Any]:
        """Acknowledge what is settled, and run commands of which one may block, in one go: the
        acknowledgement delays no event by a round trip. `Deadlines.interrupt` ends the wait.

        Errors of the server are among the replies. Raises a fault as `acknowledge` does; then the
        replies to the commands are lost.
        """
        settled = list(self._settled)
        acknowledgements = [command for _, of_one in settled for command in of_one]
        async with self.deadlines.within(TIMEOUT) as allow_interrupts:
            pipeline = await self.primary.pipeline()
            try:
                await pipeline.send([*acknowledgements, *commands])
                if settled:
                    self._acknowledged(settled, await pipeline.receive(len(acknowledgements)))
                # Not before: what is interrupted here would be acknowledged twice.
                allow_interrupts()
                return await pipeline.receive(len(commands))
            except BaseException:
                # Alone, next time: a refusal must not cost a read each time.
                self._acknowledge_now = True
                await self.primary.hang_up()
                raise

    async def pause(self, seconds: float) -> None:
        """Wait, unless interrupted."""
        async with self.deadlines.within(seconds + 1) as allow_interrupts:
            allow_interrupts()
            await asyncio.sleep(seconds)

    # -- the outcome of a delivery ---------------------------------------------------------

    def done(self, delivery: Delivery) -> None:
        """The app has handled it."""
        if delivery.unreadable and self.kind is ReaderKind.GROUP:
            self._dead.append(delivery)
        else:
            self._settle(delivery, Outcome.DONE)

    def failed(self, delivery: Delivery, error: BaseException) -> None:
        """The app failed to handle it: retry after a pause, or make it a dead letter."""
        delivery.error = type(error).__name__
        delivery.again = True
        about = "a gap" if isinstance(delivery.item, Gap) else f"event {delivery.acks[0]}"
        if isinstance(delivery.item, Event) and delivery.tries >= self.options.tries:
            self._dead.append(delivery)
            return
        log.warning("%s failed in try %d: %s", about, delivery.tries, delivery.error)
        if isinstance(delivery.item, Event) and (receipt := self._receipt(delivery, _FAILED)):
            self._settled.append((None, [receipt]))
        self.inflight.retry_later(delivery, time.monotonic())

    def dropped(self, delivery: Delivery) -> None:
        """Another process has it now."""
        delivery.settled = True

    def tried_too_often(self, delivery: Delivery) -> None:
        """It becomes a dead letter."""
        self._dead.append(delivery)

    def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        commands = self.settle(delivery)
        if (receipt := self._receipt(delivery, outcome)) is not None:
            commands.append(receipt)
        self._acknowledge_now |= delivery.again
        self._settled.append((delivery, commands))

    async def _store_dead_letters(self) -> None:
        """Store dead letters; they are acknowledged only afterwards."""
        now = time.monotonic()
        while self._dead and now >= self._dead_letters_from:
            delivery = self._dead[0]
            fields = dead_letter(delivery, self.options.name or "")
            [stored] = await self.primary.run([("XADD", self.keys.dead_letters, "*", *fields)])
            if type(stored) is redis.ResponseError or isinstance(stored, _REFUSALS):
                # It stays pending, and delays nothing else.
                self._dead_letters_from = now + _DEAD_LETTER_PAUSE
                log.error("a dead letter was refused and waits: %s", type(stored).__name__)
                return
            without_errors([stored])
            log.error(
                "event %s is among the dead letters after %d tries: %s",
                delivery.acks[0], delivery.tries, delivery.error,
            )  # fmt: skip
            del self._dead[0]
            self._settle(delivery, Outcome.DEAD)

    def _receipt(self, delivery: Delivery, outcome: Outcome) -> Command | None:
        if not (self.options.receipts and delivery.fields):
            return None
        event = delivery.acks[0]
        item = delivery.item
        since = item.received_at if isinstance(item, Event) else stream_id(event)[0] / 1000
        receipt = Receipt(
            event=event,
            listener=self.options.name or "",
            reader=self.options.reader,
            seconds=time.time() - since,
            outcome=outcome,
        )
        fields = chain.from_iterable(receipt.to_fields().items())
        return ("XADD", self.keys.receipts, "MAXLEN", "~", MAX_RECEIPTS, "*", *fields)

    # -- acknowledgements ------------------------------------------------------------------

    async def acknowledge(self) -> None:
        """Acknowledge what is settled. Raises a fault, and repeats all of it later; a receipt for
        which Redis has no memory is skipped, so that it delays nothing."""
        settled = list(self._settled)
        if not settled:
            return
        replies = await self.primary.run([command for _, of_one in settled for command in of_one])
        self._acknowledged(settled, replies)

    def _acknowledged(self, settled: list[_Settled], replies: list[Any]) -> None:
        without_errors([reply for reply in replies if not isinstance(reply, _NO_MEMORY)])
        del self._settled[: len(settled)]
        for delivery, _ in settled:
            if delivery is not None:
                self.acknowledged(delivery)
        self._acknowledged_at = time.monotonic()
        self._acknowledge_now = False

    def acknowledged(self, delivery: Delivery) -> None:
        """Redis has taken the acknowledgement."""
        delivery.settled = True

    async def keep_up(self) -> None:
        """The work of each second, also while a handler works."""
        if self.primary.has_sentinels:
            await self.primary.look_up()
        # First: it can show that this process lives where nothing can be written.
        await self.every_second()
        await self.upkeep.run(self.position)

    async def close(self) -> None:
        """Acknowledge what is settled, and report that this reader has ended."""
        await self._store_dead_letters()
        await self.acknowledge()
        await self.upkeep.say_farewell()


_FAILED = Outcome.FAILED
_NO_MEMORY = redis.exceptions.OutOfMemoryError
_REFUSALS = (_NO_MEMORY, redis.exceptions.NoPermissionError)
