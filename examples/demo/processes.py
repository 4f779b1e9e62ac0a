"""Starts a child process, waits until it is ready, and always ends it."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Python and a key pair take a second, on a busy machine many.
START_SECONDS = 30.0

# The receiver finishes requests and then stops its Redis.
STOP_SECONDS = 15.0

_PAUSE = 0.02
_LOG_LINES = 12


class ChildFault(Exception):
    """A child ended or is not ready in time; the message has the end of its log."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running child. ``log_path`` has its standard output and standard error."""

    name: str
    log_path: Path
    process: asyncio.subprocess.Process

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    async def until(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        """Waits until the child is ready. Raises `ChildFault`."""
        deadline = time.monotonic() + START_SECONDS
        while not await is_ready():
            if self.process.returncode is not None:
                raise self._fault(f"ended with status {self.process.returncode}")
            if time.monotonic() > deadline:
                raise self._fault(f"is not ready after {START_SECONDS:.0f} s")
            await asyncio.sleep(_PAUSE)

    async def ended(self) -> None:
        """Waits for an unexpected end of the child and raises `ChildFault`."""
        status = await self.process.wait()
        raise self._fault(f"ended with status {status}")

    def end_of_log(self) -> str:
        """The last lines of the log, with a heading."""
        lines = self.log.splitlines()[-_LOG_LINES:] or ["(nothing)"]
        return "\n    ".join([f"The end of the {self.name}'s log:", *lines])

    def _fault(self, what: str) -> ChildFault:
        return ChildFault(f"The {self.name} {what}. {self.end_of_log()}")


@contextlib.asynccontextmanager
async def running(
    name: str, *arguments: str, log_path: Path, environ: Mapping[str, str]
) -> AsyncIterator[Child]:
    """Runs ``python -m <arguments>`` at the root of the repository until the end of the block."""
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *arguments,
            cwd=ROOT,
            env=environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C in a terminal signals the whole group, but the children must end in order.
            start_new_session=True,
        )
    try:
        yield Child(name, log_path, process)
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
