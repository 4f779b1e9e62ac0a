"""The reports of a listener's process, and the removal of stale ones; see `readers`."""

import logging
import time

from backchannel_logout.contract.readers import (
    HASH_SECONDS,
    REPORT_SECONDS,
    Reader,
    ReaderKind,
    farewell,
    read_hash,
    stale_readers,
)
from backchannel_logout.listening.options import Options
from backchannel_logout.redis.primary import Primary

log = logging.getLogger("backchannel_logout")

# The shortest pause between two reports of a new position.
_PAUSE = 2.0

# How often to look for stale readers.
_CLEAN_SECONDS = 600.0


class Upkeep:
    """What a listener writes about itself."""

    def __init__(self, primary: Primary, options: Options, kind: ReaderKind) -> None:
        self._primary = primary
        self._options = options
        self._keys = options.keys
        self._kind = kind
        self._checked_meta = False
        self.reported: tuple[float, str | None] = (float("-inf"), None)
        self._cleaned_at = time.monotonic()

    async def run(self, position: str | None) -> None:
        """Call it each second, with the listener's position."""
        if not self._checked_meta:
            await self._check_meta()
        await self._report(position)

    async def _check_meta(self) -> None:
        """Log a wrong address or app name, whose stream never gets an event."""
        [version] = await self._primary.run([("HGET", self._keys.meta, "v")])
        self._checked_meta = True
        if version is None:
            log.error(
                "no receiver has written %s: is this the receiver's Redis, and does it serve "
                "this app?", self._keys.meta,
            )  # fmt: skip

    async def _report(self, position: str | None) -> None:
        now, (at, reported) = time.monotonic(), self.reported
        if now - at < (REPORT_SECONDS if position == reported else _PAUSE):
            return
        name = self._options.reader
        reader = Reader(name=name, kind=self._kind, at=time.time(), position=position)
        await self._primary.call(
            ("HSET", self._keys.readers, name, reader.to_json()),
            ("EXPIRE", self._keys.readers, HASH_SECONDS),
            ("EXPIRE", self._keys.receipts, HASH_SECONDS),
        )
        self.reported = (now, position)
        if now - self._cleaned_at > _CLEAN_SECONDS:
            self._cleaned_at = now
            await self._clean()

    async def _clean(self) -> None:
        """Remove the reports of processes that ended without a farewell."""
        [reply] = await self._primary.call(("HGETALL", self._keys.readers))
        if stale := stale_readers(read_hash(reply), time.time()):
            await self._primary.call(("HDEL", self._keys.readers, *stale))

    async def say_farewell(self) -> None:
        """Report that this process has ended."""
        commands = farewell(self._keys.readers, self._options.reader, time.time())
        await self._primary.call(*commands)
