"""Several processes that serve as one: started, watched, asked, started again, and stopped.

The parent binds the addresses, runs the embedded server, and answers the operators for all. Each
worker (`app.runtime.worker`) is a fresh interpreter with everything else of its own: keys,
connections to Redis, journal file. Parent and worker share a channel: see `app.runtime.ipc`.

Each worker has its own socket on the public address, and the kernel spreads the connections. The
parent holds them all, so that what waits in the line of a worker that died is not reset but is
served by its successor. See docs/decisions/0014-workers.md.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable

from app.admin.health import merged
from app.admin.metrics import of_service
from app.admin.probes import Body
from app.background import background, end
from app.config.model import Settings
from app.log import new_log
from app.runtime.ipc import Assignment, Channel, State
from app.telemetry.exposition import Gauge
from app.telemetry.metrics import RESTARTS
from app.telemetry.shared_counters import Cells, new_memory

log = new_log(__name__)

# A worker that died is started again at once, and after that in longer and longer pauses.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

# One that has lived for so long was no failed start.
LONG_LIFE = 30.0

# A worker whose event loop turns answers in milliseconds.
ANSWER_SECONDS = 1.0

# So often it is asked, and so often in a row it may be silent: half a minute. Then nothing but its
# end helps, for the kernel goes on giving it its share of the connections.
LOOK_SECONDS, MOST_SILENT = 2.0, 10

# A start takes a second or two and waits for nobody; this is for one that hangs in it.
START_SECONDS = 60.0

# Beyond its drain and its grace: what a stop may take before a worker is killed.
STOP_SECONDS = 10.0


class WorkerFault(Exception):
    """A worker has not started, or has not ended in order. The message is for the operator."""


class Worker:
    """One worker, and its successors when it dies. ``index`` counts from 0; ``on_restart`` is told
    of each death."""

    def __init__(
        self,
        index: int,
        settings: Settings,
        redis_url: str,
        listener: socket.socket,
        on_restart: Callable[[], None],
    ) -> None:
        self.index = index
        self._on_restart = on_restart
        self._memory = new_memory()
        self.cells = Cells(settings, self._memory)
        """What it has counted, with those before it."""
        self._settings = settings
        self._redis_url = redis_url
        self._listener = listener
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None

    async def start(self) -> None:
        """Start the process, and wait until it serves. Raises `WorkerFault` when it ends first, or
        does not get there within `START_SECONDS`; then it is killed."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "app.runtime.worker",
                str(theirs.fileno()),
                str(self._listener.fileno()),
                str(self._memory),
                stdin=asyncio.subprocess.DEVNULL,
                # Ctrl-C in a terminal goes to the whole group; who stops them is the parent.
                start_new_session=True,
                pass_fds=(theirs.fileno(), self._listener.fileno(), self._memory),
            )
        channel = await Channel.over(ours)
        # What it says of a fault of its own is in the log already.
        with contextlib.suppress(ConnectionError):
            channel.hand_over(Assignment(self.index, self._settings, self._redis_url))
            try:
                async with asyncio.timeout(START_SECONDS):
                    serving = await channel.serving()
            except TimeoutError:
                serving = False
                self._process.kill()
            if serving:
                self._channel = channel
                return
        channel.close()
        code = await self._process.wait()
        raise WorkerFault(f"worker {self.index} ended at its start, with status {code}")

    async def state(self) -> State | None:
        """What it says of itself; None when it does not answer, or not in time."""
        return None if self._channel is None else await self._channel.ask(ANSWER_SECONDS)

    async def keep_running(self) -> None:
        """Start it again whenever it ends. Never returns."""
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            began = loop.time()
            code = await self._process.wait() if self._process is not None else None
            if loop.time() - began > LONG_LIFE:
                pause = FIRST_PAUSE
            log.error("worker", outcome="died", index=self.index, status=code, action="restart")
            self._on_restart()
            self._leave()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            try:
                await self.start()
            except (WorkerFault, OSError) as fault:
                log.error("worker", outcome="failed", index=self.index, error=str(fault))

    async def keep_answering(self) -> None:
        """End it when it hangs; `keep_running` starts it again. Never returns."""
        silent, channel = 0, self._channel
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if channel is not self._channel:
                silent, channel = 0, self._channel  # the silence was its predecessor's
            if channel is None or await channel.ask(ANSWER_SECONDS) is not None:
                silent = 0
                continue
            silent += 1
            if silent >= MOST_SILENT and self._process is not None:
                silent = 0
                log.error("worker", outcome="hangs", index=self.index, action="kill")
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()

    def _leave(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def stop(self, seconds: float) -> bool:
        """Have it end in order; whether it did, within ``seconds``. One that does not serve yet
        has nothing to bring to its end."""
        process, served = self._process, self._channel is not None
        if process is None:
            return True
        self.terminate()
        try:
            async with asyncio.timeout(seconds):
                code = await process.wait()
        except TimeoutError:
            log.error("worker", outcome="hangs", index=self.index, action="kill")
            process.kill()
            code = await process.wait()
        self._leave()
        return code == 0 or not served

    def terminate(self) -> None:
        """Tell it to end; also where it is only starting."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()


class Workers:
    """All of them."""

    def __init__(self, settings: Settings, redis_url: str, listeners: list[socket.socket]) -> None:
        share = share_of(settings, len(listeners))
        self._seconds = settings.drain + 2 * settings.shutdown_grace + STOP_SECONDS
        self.own_cells = Cells(settings)
        """What the parent itself counts."""
        restarted = self.own_cells.counter(RESTARTS)
        self._workers = [
            Worker(index, share, redis_url, listener, restarted)
            for index, listener in enumerate(listeners)
        ]
        self.own_gauges: Callable[[], list[Gauge]] = list
        """Those of the parent."""
        self.cells = [self.own_cells, *(worker.cells for worker in self._workers)]
        """The counters of all of them, and of those that are gone."""

    @contextlib.asynccontextmanager
    async def running(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Start all of them; at the end stop them together. Raises `WorkerFault`.

        ``stop`` is waited for by the body; set during the start, it ends that, and is no fault.
        """
        watches: list[asyncio.Task[None]] = []
        try:
            await self._start(stop)
            if not stop.is_set():
                for worker in self._workers:
                    watches.append(asyncio.create_task(worker.keep_running()))
                    watches.append(asyncio.create_task(worker.keep_answering()))
            yield
        except BaseException:
            await self._stop(watches)
            raise
        if not all(await self._stop(watches)):
            raise WorkerFault("a worker has not ended in order")

    async def _start(self, stop: asyncio.Event) -> None:
        """Wait for all, also when one fails: no start is left under way."""
        async with background([lambda: self._terminate_at(stop)]):
            started = await asyncio.gather(
                *(worker.start() for worker in self._workers), return_exceptions=True
            )
        for fault in started:
            if fault is not None and not stop.is_set():
                raise fault

    async def _terminate_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        for worker in self._workers:
            worker.terminate()

    async def _stop(self, watches: list[asyncio.Task[None]]) -> list[bool]:
        await end(watches)
        return await asyncio.gather(*(one.stop(self._seconds) for one in self._workers))

    async def health(self) -> list[Body | None]:
        """What the `/readyz` of each would say; None where one does not answer in time."""
        return [None if one is None else one["health"] for one in await self.states()]

    async def states(self) -> list[State | None]:
        """What each says of itself now: its ``health`` and its ``gauges``."""
        return await asyncio.gather(*(worker.state() for worker in self._workers))

    async def gauges(self, stopping: bool) -> list[list[Gauge]]:
        """Those of each that answers, and of the service."""
        states = await self.states()
        answers = [one for one in states if one is not None]
        ready = merged([None if one is None else one["health"] for one in states])["ready"]
        whole = of_service(
            ready=ready and not stopping, configured=len(states), answering=len(answers)
        )
        return [*(one["gauges"] for one in answers), self.own_gauges(), whole]


def share_of(settings: Settings, workers: int) -> Settings:
    """The settings of one worker: what bounds the whole service is divided."""
    return settings.model_copy(
        update={
            name: max(1, -(-getattr(settings, name) // workers))
            for name in (
                "max_connections",
                "max_in_flight",
                "marker_quota",
                "parking_max_tokens",
                "parking_max_bytes",
                "journal_max_bytes",
                "recovery_max_bytes",
            )
            if getattr(settings, name)
        }
    )
