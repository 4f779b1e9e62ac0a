"""The journal: accepted revocations that Redis could not take yet.

An appended entry outlives the process and a power loss: it is in an append-only log, with an
fsync. Appends that arrive together share one fsync. A thread of its own does all file access, so
that a slow disk never blocks the event loop.
"""

import asyncio
import errno
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from app.journal.pending_log import Depth, Entry, PendingLog, encode_entry, key_of
from app.journal.segment_log import SEGMENT_BYTES
from app.journal.sqlite_migration import migrate
from app.log import new_log
from app.revocation import Revocation

_T = TypeVar("_T")

log = new_log(__name__)


class JournalFault(Exception):
    """The journal has not taken an entry. The text is one word: ``full`` or ``disk``."""


@dataclass(slots=True, eq=False)
class _Append:
    revocation: Revocation
    refused: str | None
    result: asyncio.Future[bool | str]
    """Whether it is new; or a `JournalFault`'s word."""


class Journal:
    """One process's journal. ``max_bytes`` counts the records."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path = path
        """Names the journal; its log is in the directory `directory_of` it."""
        self.depth = Depth()
        self.damaged_files = 0
        """Files of the log that were damaged and are kept, or that were missing, at the start."""
        self.written: set[int] = set()
        """Entries that are in Redis, but below the required durability; `Replay` uses this."""
        self._max_bytes = max_bytes
        self._log = PendingLog(
            directory_of(path), segment_bytes=min(SEGMENT_BYTES, max_bytes // 8) or SEGMENT_BYTES
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._appends: list[_Append] = []
        self._committing: asyncio.Task[None] | None = None
        self._disk_fault = False
        self._full_at = max_bytes
        """From this many bytes on an entry was refused, however small the next one may be."""

    async def open(self) -> None:
        """Open the log, and move the entries of an earlier release's file into it.

        Raises ``OSError`` when there can be no journal at this path.
        """
        await self._run(self._open)

    def _open(self) -> None:
        self._log.open()
        for segment, readable in self._log.damaged:
            # A second name keeps the file when the log deletes it. The last record of a process
            # that was killed in the middle of a write looks like damage, too.
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(segment.stat().st_mtime))
            kept = self.path.with_name(f"{self.path.name}.damaged-{stamp}-{int(segment.stem)}")
            if not kept.exists():
                try:
                    _keep(segment, kept)
                except OSError as error:
                    log.critical(
                        "journal", outcome="damaged", readable=readable, not_kept=_name(error)
                    )
                else:
                    log.critical("journal", outcome="damaged", readable=readable, kept_as=kept.name)
        if self._log.missing:
            log.critical("journal", outcome="damaged", missing_files=self._log.missing)
        migrate(self.path, self._log)
        self.damaged_files = self._log.missing + len(damaged_files(self.path))
        self._refresh()

    async def close(self) -> None:
        """Finish the appends under way, and close."""
        if self._committing is not None:
            await asyncio.wait([self._committing])
        await self._run(self._log.close)
        self._thread.shutdown(wait=False)

    @property
    def fault(self) -> str | None:
        """Why it takes no entry now: ``full`` or ``disk``."""
        if self._disk_fault:
            return "disk"
        return "full" if self.depth.bytes >= self._full_at else None

    async def probe(self) -> None:
        """Find out whether a write succeeds; `fault` has the result."""
        await self._run(partial(self._succeeds, self._log.probe))

    async def append(self, revocation: Revocation, *, refused: str | None = None) -> bool:
        """Write an entry durably. False: the same logout of this app is in the journal already.

        ``refused`` is the reason why Redis refuses it: the entry is set aside at once. Raises
        `JournalFault`.
        """
        append = _Append(revocation, refused, asyncio.get_running_loop().create_future())
        self._appends.append(append)
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        result = await append.result
        if isinstance(result, str):
            raise JournalFault(result)
        return result

    async def _commit(self) -> None:
        """Write group after group, with one fsync each, while appends are waiting."""
        while self._appends:
            group, self._appends = self._appends, []
            results: list[bool | str] = []
            try:
                await self._run(partial(self._succeeds, partial(self._insert, group, results)))
            except Exception:
                # A fault of ours must not leave the callers without an answer.
                log.exception("journal", outcome="failed", error="internal")
            for append, result in zip(group, results or ["disk"] * len(group), strict=True):
                if not append.result.done():  # else cancelled
                    append.result.set_result(result)
        self._committing = None

    def _insert(self, group: Sequence[_Append], results: list[bool | str]) -> None:
        decided: list[bool | str] = []
        records: list[bytes] = []
        added: dict[str, str | None] = {}
        size = self._log.bytes
        for append in group:
            key, refused = key_of(append.revocation), append.refused
            record = encode_entry(append.revocation, key, refused=refused)
            is_known = key in added or key in self._log
            # Set aside, and now sent again: it is retried, unless Redis refuses it again.
            is_retry = is_known and not refused and added.get(key, self._log.refused(key))
            if is_known and not is_retry:
                decided.append(False)
            elif not is_known and size + len(record) > self._max_bytes:
                self._full_at = size
                decided.append("full")
            else:
                added[key] = refused
                records.append(record)
                size += len(record)
                decided.append(True)
        self._log.append(records)
        results += decided

    def _succeeds(self, work: Callable[[], None]) -> None:
        """Run ``work``, and keep whether the disk takes it for `fault`."""
        try:
            work()
        except OSError as error:
            if not self._disk_fault:
                log.error("journal", outcome="failed", error=_name(error))
            self._disk_fault = True
        else:
            if self._disk_fault:
                log.warning("journal", outcome="recovered")
            self._disk_fault = False

    async def read(self, *, after: int, limit: int, refused: bool = False) -> list[Entry]:
        """Return entries with a higher id than ``after``: waiting ones, or those set aside."""
        return await self._run(partial(self._log.read, after=after, limit=limit, refused=refused))

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Forget entries that Redis has, also when the disk is full. Never raises ``OSError``."""
        self.written.difference_update(entry.id for entry in entries)
        await self._run(partial(self._remove, [entry.key for entry in entries]))

    def _remove(self, keys: Sequence[str]) -> None:
        try:
            self._log.remove(keys)
        except OSError as error:
            log.error("journal", outcome="not_deleted", error=_name(error))

    async def set_aside(self, refused: Sequence[tuple[Entry, str]]) -> None:
        """Keep entries that cannot be applied out of the way of the others; each with a reason."""
        for _, reason in refused:
            log.error("journal", outcome="set_aside", error=reason)
        await self._run(partial(self._log.set_aside, refused))

    async def put_back(self) -> int:
        """Let the entries that were set aside wait again; returns how many."""
        return await self._run(self._log.retry_all)

    async def refresh(self) -> None:
        """Do what the command line requests, and what a full disk has prevented."""
        await self._run(self._refresh)

    def _refresh(self) -> None:
        request = retry_request_of(self.path)
        if request.exists():
            try:
                self._log.retry_all()
                request.unlink(missing_ok=True)
            except OSError as error:
                # The request stays, for a disk with room.
                log.error("journal", outcome="not_retried", error=_name(error))
        self._remove([])

    async def _run(self, work: Callable[[], _T]) -> _T:
        """Run ``work`` in the thread, and measure the depth after it."""

        def measured() -> _T:
            try:
                return work()
            finally:
                self.depth = self._log.depth()

        try:
            measured_work = asyncio.get_running_loop().run_in_executor(self._thread, measured)
        except RuntimeError:  # the thread has been shut down
            raise OSError(errno.EBADF, "closed") from None
        return await measured_work


def damaged_files(journal: Path) -> list[Path]:
    """The damaged files that are kept beside a journal, until an operator removes them."""
    return sorted(journal.parent.glob(f"{journal.name}.damaged-*"))


def directory_of(path: Path) -> Path:
    """The directory with the journal's log."""
    return path.with_name(path.name + ".pending")


def retry_request_of(path: Path) -> Path:
    """The file with which a command requests another try of what was set aside."""
    return path.with_name(path.name + ".retry")


def _keep(segment: Path, kept: Path) -> None:
    """Give a file a second name; where the file system has no such links, copy it."""
    try:
        os.link(segment, kept)
    except OSError:
        part = kept.with_name(kept.name + ".part")
        try:
            shutil.copy(segment, part)
            part.replace(kept)
        finally:
            part.unlink(missing_ok=True)


def _name(error: OSError) -> str:
    """The error's name (``ENOSPC``), without a word of the data."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
