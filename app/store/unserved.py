"""Finds apps that have keys in Redis but no client in the settings.

An app that was renamed or removed leaves its ``meta``, and a guard with a misspelled name leaves
its report. ``SCAN`` finds both, on every server, in small steps; it visits every key of the
database. The same pass can measure the apps' other keys.
"""

import asyncio
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from app.config.model import Settings
from app.log import new_log
from app.store.app_meta import META_SECONDS, RENEW_SECONDS
from app.store.errors import EXCHANGE_FAULTS, fault_of_exchange
from app.store.other_keys import OtherKeys
from app.store.topology import REDIS_SECONDS, RedisTopology
from backchannel_logout import AppKeys
from backchannel_logout.contract.keys import APP_NAME
from backchannel_logout.redis.internals import AnswerTooLarge

log = new_log(__name__)

# Matches ``meta`` and all under ``app:``, and no marker.
_PATTERN = "bcl:v1:{*}:[am][pe][pt][:a]*"

# Keys per step: less than a millisecond of Redis.
_KEYS_AT_ONCE = 1000

MAX_KEYS = 1_000_000
"""Keys that one pass visits on one server."""

MAX_APPS = 100
"""Apps that one pass reports: foreign keys must not fill our metrics."""

_KEPT_ALIVE_SECONDS = 3 * RENEW_SECONDS

_KEY = re.compile(r"bcl:v1:\{(?P<app>[^}]+)\}:(?P<what>meta|app:readers)")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnservedApp:
    """An app without a client in the settings.

    ``has_meta``: its guards find a ``meta`` and answer. ``expires_in``: seconds until that expires;
    ``for_ever``: it never does. Neither: unknown. ``reads``: a reader has reported for the app.
    ``elsewhere``: ``meta`` was renewed within three minutes, so another receiver serves the app, or
    did so until just now.
    """

    app: str
    has_meta: bool
    reads: bool
    expires_in: float | None = None
    for_ever: bool = False

    @property
    def elsewhere(self) -> bool:
        return self.expires_in is not None and self.expires_in > META_SECONDS - _KEPT_ALIVE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Unserved:
    """The result of one pass.

    ``complete``: every key was visited; ``fault``: why there was no pass, in one word.
    """

    apps: tuple[UnservedApp, ...] = ()
    complete: bool = True
    fault: str | None = None


class UnservedApps:
    """Finds unserved apps; ``apps`` are those of the settings."""

    def __init__(self, topology: RedisTopology, apps: Collection[str]) -> None:
        self._topology = topology
        self._apps = frozenset(apps)

    def serve(self, apps: Collection[str]) -> None:
        """These are the apps of the settings from now on."""
        self._apps = frozenset(apps)

    async def find(self, *, pause: float = 0.0, others: OtherKeys | None = None) -> Unserved:
        """Scan every server, with ``pause`` seconds between two steps.

        ``others`` measures the keys on the way. Never raises an error of Redis.
        """
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                servers = await self._topology.primaries()
            passes = [await self._pass(server, pause, others) for server in servers.values()]
        except NoPermissionError:
            return Unserved(complete=False, fault="NOPERM")
        except EXCHANGE_FAULTS as error:
            return Unserved(complete=False, fault=str(fault_of_exchange(error)))
        found = sorted((app for apps, _ in passes for app in apps), key=lambda app: app.app)
        complete = all(ended for _, ended in passes) and len(found) <= MAX_APPS
        return Unserved(apps=tuple(found[:MAX_APPS]), complete=complete)

    async def _pass(
        self, server: Redis, pause: float, others: OtherKeys | None
    ) -> tuple[list[UnservedApp], bool]:
        """Scan one server; also returns whether all of its keys were visited."""
        found: dict[str, set[str]] = {}
        cursor, looked, count = 0, 0, _KEYS_AT_ONCE
        of_type = "HASH" if others is None else None
        while True:
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    cursor, keys = await server.scan(cursor, _PATTERN, count, of_type)
            except AnswerTooLarge:
                # A key's name may have 512 MB: fewer at once, down to one.
                if count == 1:
                    raise
                count = max(1, count // 10)
                continue
            if others is not None:
                await others.measure(server, keys)
            for app, what in filter(None, map(_app_of, keys)):
                if app not in self._apps:
                    found.setdefault(app, set()).add(what)
            looked += count
            count = min(2 * count, _KEYS_AT_ONCE)
            if cursor == 0 or looked >= MAX_KEYS or len(found) > MAX_APPS:
                break
            await asyncio.sleep(pause)
        return await self._described(server, found), cursor == 0

    @staticmethod
    async def _described(server: Redis, found: Mapping[str, set[str]]) -> list[UnservedApp]:
        pipeline = server.pipeline(transaction=False)
        for app in found:
            pipeline.execute_command("PTTL", AppKeys(app).meta)
        async with asyncio.timeout(REDIS_SECONDS):
            # An app without the right to its ``PTTL`` is reported all the same.
            lives = await pipeline.execute(raise_on_error=False)
        return [
            UnservedApp(
                app=app,
                has_meta="meta" in what,
                reads="app:readers" in what,
                expires_in=life / 1000 if isinstance(life, int) and life >= 0 else None,
                for_ever=life == -1,
            )
            for (app, what), life in zip(found.items(), lives, strict=True)
        ]


class UnservedWatch:
    """Scans from time to time, for the metrics.

    ``found`` is the last result; ``other_bytes`` is the memory of each ``served`` app's other keys,
    while ``measures`` returns True.
    """

    def __init__(
        self,
        apps: UnservedApps,
        served: Collection[str] = (),
        *,
        measures: Callable[[], bool] = lambda: True,
        every: float = 300.0,
        pause: float = 0.05,
    ) -> None:
        self._unserved = apps
        self._served = served
        self._measures = measures
        self._every = every
        self._pause = pause
        self.found = Unserved(complete=False)
        self.other_bytes: Mapping[str, int] = {}

    async def keep_looking(self) -> None:
        """Scan every ``every`` seconds. Never returns."""
        while True:
            others = OtherKeys(self._served) if self._served and self._measures() else None
            last = self.found.fault
            try:
                self.found = await self._unserved.find(pause=self._pause, others=others)
            except Exception:
                # A fault of ours: those of Redis are in the result.
                log.exception("unserved", outcome="failed", error="internal")
                self.found = Unserved(complete=False, fault="internal")
            fault = self.found.fault
            self.other_bytes = others.sizes() if others is not None and fault is None else {}
            # A user without the right to scan is a choice.
            if fault not in (None, last, "NOPERM", "internal"):
                log.warning("metrics", outcome="not_looked_through", error=fault)
            until = time.monotonic() + self._every
            while (left := until - time.monotonic()) > 0:
                await asyncio.sleep(min(left, 1.0))
                if others is None and self._served and self._measures():
                    break  # from now on it is this receiver that measures


def apps_of_settings(settings: Settings) -> set[str]:
    """Return the app of every client in the settings, and the canary's."""
    apps = {client.app for issuer in settings.issuers for client in issuer.clients}
    return apps | ({settings.canary.app} if settings.canary is not None else set())


def _app_of(key: bytes | str) -> tuple[str, str] | None:
    text = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
    match = _KEY.fullmatch(text)
    # Names go to terminals and labels: only those that the contract allows.
    if match is None or not APP_NAME.fullmatch(match["app"]):
        return None
    return match["app"], match["what"]
