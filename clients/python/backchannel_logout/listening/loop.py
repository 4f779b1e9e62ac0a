"""What both modes of a listener share: the order of work, and what is told to Redis of it."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from itertools import chain
from typing import Any

import redis

from backchannel_logout.contract.event import Event, stream_id
from backchannel_logout.contract.gap import Gap
from backchannel_logout.contract.readers import (
    HASH_SECONDS,
    REPORT_SECONDS,
    Reader,
    ReaderKind,
    farewell,
    stale_readers,
)
from backchannel_logout.contract.receipts import MAX_RECEIPTS, Outcome, Receipt
from backchannel_logout.listening.dead_letters import dead_letter
from backchannel_logout.listening.deadlines import Deadlines
from backchannel_logout.listening.deliveries import Deliveries, Delivery
from backchannel_logout.listening.options import Options
from backchannel_logout.redis.pipeline import Command
from backchannel_logout.redis.primary import Primary, without_errors

log = logging.getLogger("backchannel_logout")

# Redis answers a waiting read at once when there is something. The rest of the time, a read ends
# after so many seconds, so that a dead connection and a lost stream are noticed.
BLOCK_SECONDS = 1.0

# A read that is not answered this long after it should have been: the server is taken for dead.
TIMEOUT = BLOCK_SECONDS + 2.0

# What was handled is told to Redis with the next read, and while a batch is being worked off at
# least this often: a crash repeats what was not told.
_TELL_SECONDS = 0.1

# A dead letter that Redis refuses is tried again after so long.
_BURY_AGAIN_SECONDS = 5.0

# A changed position is reported at most so often.
_REPORT_PAUSE = 2.0

# Readers that have been silent for an hour are looked for this often.
_CLEAN_SECONDS = 600.0


_Settled = tuple[Delivery | None, list[Command]]


class ListenerLoop(ABC):
    """One listener's way through the stream.

    `next` may raise any of `primary.FAULTS`, or be cancelled, at any moment, and is then called
    again: nothing is taken off a list before what it needs of Redis is done.
    """

    kind: ReaderKind

    def __init__(self, primary: Primary, options: Options) -> None:
        self.primary = primary
        self.options = options
        self.keys = options.keys
        self.hand = Deliveries(options.retry_after)
        self._dead: list[Delivery] = []
        self._bury_at = float("-inf")
        # Settled and not yet told to Redis, each with the commands that tell it.
        self._settled: list[_Settled] = []
        self._told_at = time.monotonic()
        self._tell_at_once = False
        self.waits = Deadlines()
        self._looked_at_meta = False
        self._reported: tuple[float, str | None] = (float("-inf"), None)
        self._cleaned_at = time.monotonic()

    # -- what a mode does ------------------------------------------------------------------

    @abstractmethod
    async def read(self) -> None:
        """Wait for what comes, for a second at most, and put it into `hand`."""

    @abstractmethod
    async def begin_again(self, delivery: Delivery) -> bool:
        """Before it is tried again; False where it is not ours any more."""

    @abstractmethod
    async def prepare(self) -> Delivery | None:
        """What goes before everything fresh, if there is anything."""

    @abstractmethod
    def settle(self, delivery: Delivery) -> list[Command]:
        """The commands that say it has been dealt with."""

    @property
    @abstractmethod
    def position(self) -> str | None:
        """The id of the last entry that has been dealt with."""

    @abstractmethod
    async def look_after(self) -> None:
        """What is due each second, also while a handler works."""

    @abstractmethod
    def after_outage(self) -> None:
        """Redis answers again, or another one does."""

    # -- the order of work -----------------------------------------------------------------

    async def next(self) -> Delivery:
        """Wait for the next item."""
        while True:
            await self._bury()
            now = time.monotonic()
            if self._settled and (self._tell_at_once or now - self._told_at > _TELL_SECONDS):
                await self.tell()
            if (first := await self.prepare()) is not None:
                return first
            if self.hand.gaps:
                return self.hand.gaps.popleft()
            if (delivery := self.hand.due(now)) is not None:
                ours = await self.begin_again(delivery)
                self.hand.begin()
                if ours:
                    return delivery
                self.dropped(delivery)
            elif self.hand.fresh:
                return self.hand.fresh.popleft()
            elif self.hand.full:
                await self.pause(self.patience)
            else:
                await self.read()

    @property
    def patience(self) -> float:
        """For how long a read may wait, in seconds."""
        return self.hand.patience(time.monotonic(), BLOCK_SECONDS)

    async def converse(self, commands: list[Command]) -> list[Any]:
        """Tell what has been settled, and run commands of which one may wait, in one go: no round
        trip of the telling is in the way of the next event. `interrupt` ends the wait.

        Errors of the server are among the answers. Raises a fault as `tell` does; then what the
        commands have brought is lost.
        """
        settled = list(self._settled)
        telling = [one for _, more in settled for one in more]
        async with self.waits.at_most(TIMEOUT) as may_be_interrupted:
            line = await self.primary.line()
            try:
                await line.send([*telling, *commands])
                if settled:
                    self._told(settled, await line.receive(len(telling)))
                # Not before: what was told and not heard to be, is told twice.
                may_be_interrupted()
                return await line.receive(len(commands))
            except BaseException:
                self._tell_at_once = True  # alone: a refusal must not cost a read each time
                await self.primary.hang_up()
                raise

    async def pause(self, seconds: float) -> None:
        """Do nothing, for so many seconds at most."""
        async with self.waits.at_most(seconds + 1) as may_be_interrupted:
            may_be_interrupted()
            await asyncio.sleep(seconds)

    # -- how items fare --------------------------------------------------------------------

    def done(self, delivery: Delivery) -> None:
        """The app has dealt with it."""
        if delivery.unreadable and self.kind is ReaderKind.GROUP:
            self._dead.append(delivery)
        else:
            self._settle(delivery, Outcome.DONE)

    def failed(self, delivery: Delivery, error: BaseException) -> None:
        """The app could not deal with it: it is tried again after a pause, or it is dead."""
        delivery.error = type(error).__name__
        delivery.again = True
        about = "a gap" if isinstance(delivery.item, Gap) else f"event {delivery.acks[0]}"
        if isinstance(delivery.item, Event) and delivery.tries >= self.options.tries:
            self._dead.append(delivery)
            return
        log.warning("%s failed in try %d: %s", about, delivery.tries, delivery.error)
        if isinstance(delivery.item, Event) and (receipt := self._receipt(delivery, _FAILED)):
            self._settled.append((None, [receipt]))
        self.hand.wait(delivery, time.monotonic())

    def dropped(self, delivery: Delivery) -> None:
        """It is somebody else's now."""
        delivery.settled = True

    def buried(self, delivery: Delivery) -> None:
        """Its last try was one too many."""
        self._dead.append(delivery)

    def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        commands = self.settle(delivery)
        if (receipt := self._receipt(delivery, outcome)) is not None:
            commands.append(receipt)
        self._tell_at_once |= delivery.again
        self._settled.append((delivery, commands))

    async def _bury(self) -> None:
        """Store dead letters; only then are they acknowledged."""
        now = time.monotonic()
        while self._dead and now >= self._bury_at:
            delivery = self._dead[0]
            fields = dead_letter(delivery, self.options.name or "")
            [stored] = await self.primary.run([("XADD", self.keys.dead_letters, "*", *fields)])
            if type(stored) is redis.ResponseError or isinstance(stored, _REFUSALS):
                # It stays pending; nothing else has to wait for that.
                self._bury_at = now + _BURY_AGAIN_SECONDS
                log.error("a dead letter is refused and waits: %s", type(stored).__name__)
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

    # -- telling Redis ---------------------------------------------------------------------

    async def tell(self) -> None:
        """Tell Redis what has been settled. Raises a fault, and tells all of it again later; but
        a receipt for which Redis has no memory is left out: it holds nothing up."""
        settled = list(self._settled)
        if not settled:
            return
        answers = await self.primary.run([one for _, commands in settled for one in commands])
        self._told(settled, answers)

    def _told(self, settled: list[_Settled], answers: list[Any]) -> None:
        without_errors([one for one in answers if not isinstance(one, _NO_MEMORY)])
        del self._settled[: len(settled)]
        for delivery, _ in settled:
            if delivery is not None:
                self.told(delivery)
        self._told_at = time.monotonic()
        self._tell_at_once = False

    def told(self, delivery: Delivery) -> None:
        """Redis knows that it has been settled."""
        delivery.settled = True

    async def upkeep(self) -> None:
        """What is due each second, also while a handler works."""
        if self.primary.has_sentinels:
            await self.primary.look_up()
        # First: that we live can be shown where nothing can be written.
        await self.look_after()
        if not self._looked_at_meta:
            await self._look_at_meta()
        await self._report()

    async def _look_at_meta(self) -> None:
        """Tell of a wrong address or app name, in whose stream nothing would ever come."""
        [version] = await self.primary.run([("HGET", self.keys.meta, "v")])
        self._looked_at_meta = True
        if version is None:
            log.error(
                "no receiver has written %s: is this the receiver's Redis, and does it serve "
                "this app?", self.keys.meta,
            )  # fmt: skip

    async def _report(self) -> None:
        now, (at, position) = time.monotonic(), self._reported
        pause = _REPORT_PAUSE if self.position != position else REPORT_SECONDS
        if now - at < pause:
            return
        position = self.position
        me = Reader(name=self.options.reader, kind=self.kind, at=time.time(), position=position)
        await self.primary.ask(
            ("HSET", self.keys.readers, me.name, me.to_json()),
            ("EXPIRE", self.keys.readers, HASH_SECONDS),
            ("EXPIRE", self.keys.receipts, HASH_SECONDS),
        )
        self._reported = (now, position)
        if now - self._cleaned_at > _CLEAN_SECONDS:
            self._cleaned_at = now
            await self._clean()

    async def _clean(self) -> None:
        """Remove the reports of processes that ended without a word."""
        [answer] = await self.primary.ask(("HGETALL", self.keys.readers))
        readers = {
            name.decode("utf-8", "replace"): Reader.from_json(name, text)
            for name, text in zip(answer[::2], answer[1::2], strict=True)
        }
        if names := stale_readers(readers, time.time()):
            await self.primary.ask(("HDEL", self.keys.readers, *names))

    async def close(self) -> None:
        """Tell what has been settled, and that this reader has ended."""
        await self._bury()
        await self.tell()
        await self.primary.ask(*farewell(self.keys.readers, self.options.reader, time.time()))


_FAILED = Outcome.FAILED
_NO_MEMORY = redis.exceptions.OutOfMemoryError
_REFUSALS = (_NO_MEMORY, redis.exceptions.NoPermissionError)
