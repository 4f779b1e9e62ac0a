"""Composes what is between a revocation and Redis, and keeps it running."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from app.background import background
from app.config.model import Settings
from app.journal.ack_log import AckLog
from app.journal.files import JournalFiles, copy_of
from app.journal.journal import Journal
from app.journal.recovery import Recovery
from app.journal.replay import Replay
from app.log import new_log
from app.publish.quota import Quota
from app.publish.writer import Writer
from app.revocation import Revocation
from app.store.app_meta import AppNames
from app.store.errors import EXCHANGE_FAULTS
from app.store.generation import Generation
from app.store.marker_life import MarkerExtension
from app.store.monitor import RedisMonitor
from app.store.store import Store
from app.store.topology import REDIS_SECONDS, RedisTopology
from backchannel_logout.redis.connection import AsyncClient

log = new_log(__name__)

# How long reads may come from a primary that was deposed and has not noticed.
_LOOK_UP_SECONDS = 2.0


class JournalUnusable(Exception):
    """There can be no journal at the configured path; the message is for the operator."""


class Publisher:
    """`writer` serves every source of revocations; `monitor` and `journal` report the state."""

    def __init__(
        self,
        settings: Settings,
        client: AsyncClient,
        *,
        reads: AsyncClient | None = None,
        on_written: Callable[[Revocation, int], None] = lambda _, __: None,
        on_lost: Callable[[int], None] = lambda _: None,
        on_emptied: Callable[[], None] = lambda: None,
    ) -> None:
        """``client`` serves only logouts if there is another one for `reads`.

        ``on_written`` gets each revocation that Redis has taken, with the script's answer;
        ``on_lost`` and ``on_emptied``: see `Recovery`.
        """
        self._settings = settings
        self._on_written = on_written
        topology = RedisTopology(client)
        self.store = new_store(settings, topology)
        path = settings.journal_path
        self.topology = topology
        self.reads = RedisTopology(reads, bounded=True) if reads is not None else topology
        """For everything but logouts. It has connections of its own, so that no number of reads
        keeps a logout waiting."""
        self._files = JournalFiles(path) if path is not None else None
        own = self._claim()
        self.journal = Journal(own, max_bytes=settings.journal_max_bytes) if own else None
        self.ack_log = AckLog(
            copy_of(own) if own else None,
            window=settings.recovery_window,
            max_bytes=settings.recovery_max_bytes,
        )
        self.recovery = Recovery(
            self.store,
            self.ack_log,
            on_lost=on_lost,
            on_emptied=on_emptied,
            on_restored=lambda: self.monitor.look_soon(),  # noqa: PLW0108  defined below
        )
        self.monitor = RedisMonitor(
            self.store,
            topology,
            on_change=self.recovery.primary_changed,
            last=lambda: self.ack_log.last,
            holds=self.recovery.holds,
            generation=Generation(
                lambda: self.ack_log.state.generation, self.ack_log.state.belongs_to
            ),
            on_emptied=self.recovery.redis_emptied,
        )
        self.writer = Writer(
            self.store,
            self.monitor,
            self.journal,
            self.ack_log,
            Quota(settings.marker_quota),
            on_written,
        )

    def serve(self, settings: Settings) -> None:
        """Write for the apps of these settings from now on."""
        self.store.serve(ages_of_apps(settings), names_of_apps(settings))
        self.monitor.look_soon()

    @property
    def takes_writes(self) -> bool:
        """Whether a logout of at least one app can be answered with 200."""
        if self.journal is not None and self.journal.fault is None:
            return True
        faulty = self.monitor.app_errors
        return not all(app in faulty or self.monitor.down(app) for app in self.store.apps)

    def _claim(self) -> Path | None:
        if self._files is None:
            return None
        try:
            return self._files.claim()
        except OSError as error:
            raise self._unusable(error.strerror or error) from None

    def _unusable(self, why: object) -> JournalUnusable:
        return JournalUnusable(f"{self._settings.journal_path}: {why}")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the journal, monitor Redis, replay and recover; at the end drain the journal.

        Raises `JournalUnusable`.
        """
        await self._open()
        work = [
            self.recovery.keep_recovering,
            self.monitor.keep_looking,
            self._keep_looking_up,
            MarkerExtension(self.store.metas, self.reads).keep_extending,
        ]
        replay: Replay | None = None
        if self.journal is not None and self._files is not None:
            replay = Replay(
                self.journal, self._files, self.store, self.monitor, self.ack_log, self.recovery,
                alarm_age=self._settings.journal_alarm_age,
                on_written=self._on_written,
            )  # fmt: skip
            work.append(replay.keep_replaying)
        try:
            async with background(work):
                yield
        finally:
            if replay is not None:
                await replay.drain(self._settings.shutdown_grace)
            await self.writer.aclose()
            await self._close()

    async def _open(self) -> None:
        try:
            if self.journal is not None:
                await self.journal.open()
            self.ack_log.open()
        except OSError as error:
            await self._close()
            raise self._unusable(error) from None

    async def _keep_looking_up(self) -> None:
        """Follow the primary for `reads`, as `RedisMonitor` does for logouts."""
        while self.reads is not self.topology:
            try:
                with contextlib.suppress(*EXCHANGE_FAULTS):
                    async with asyncio.timeout(REDIS_SECONDS):
                        await self.reads.look_up()
            except Exception:
                log.exception("redis", outcome="failed", error="internal")
            await asyncio.sleep(_LOOK_UP_SECONDS)

    async def _close(self) -> None:
        if self.journal is not None:
            await self.journal.close()
        self.ack_log.close()
        if self._files is not None:
            self._files.release()
        if self.reads is not self.topology:
            await self.reads.aclose()
        await self.topology.aclose()


def new_store(settings: Settings, topology: RedisTopology) -> Store:
    """Build the store that the settings describe."""
    return Store(
        topology,
        apps=ages_of_apps(settings),
        event_retention=settings.event_retention,
        event_max_len=settings.event_max_len,
        durability=settings.durability,
        names=names_of_apps(settings),
    )


def ages_of_apps(settings: Settings) -> dict[str, int]:
    """Return each app's ``max_session_age``, in seconds."""
    return {
        client.app: int(client.max_session_age)
        for issuer in settings.issuers
        for client in issuer.clients
    }


def names_of_apps(settings: Settings) -> dict[str, AppNames]:
    """Return each app's client ids, and every name of the issuers of its sessions."""
    issuers: dict[str, list[str]] = {}
    client_ids: dict[str, list[str]] = {}
    for issuer in settings.issuers:
        for client in issuer.clients:
            issuers.setdefault(client.app, []).extend(issuer.names)
            client_ids.setdefault(client.app, []).append(client.client_id)
    return {app: AppNames(tuple(issuers[app]), tuple(client_ids[app])) for app in issuers}
