"""Apps that Redis holds keys of and that no client of the settings leads to.

An app that was renamed or removed leaves its ``meta``, and a guard that was given a misspelled name
leaves its report. Both are found by ``SCAN``, on every server, in small steps: it looks at each key
of the database, whoever's it is. The same pass may measure what apps have under other names.
"""

import asyncio
import re
from collections.abc import Collection, Mapping
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

# Looked at in one step: less than a millisecond of Redis.
_KEYS_AT_ONCE = 1000

MOST_KEYS = 1_000_000
"""Looked at on one server in one pass."""

MOST_APPS = 100
"""Named of one pass: somebody else's keys must not fill our metrics."""

_KEPT_ALIVE_SECONDS = 3 * RENEW_SECONDS

_KEY = re.compile(r"bcl:v1:\{(?P<app>[^}]+)\}:(?P<what>meta|app:readers)")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnservedApp:
    """An app that no client here leads to.

    ``has_meta``: its guards find one and answer. ``expires_in``: seconds, until it goes by itself;
    ``for_ever``: it never does. Neither: Redis does not say. ``reads``: somebody has reported for
    it. ``elsewhere``: its ``meta`` was renewed within three minutes, so that another receiver
    serves it, or one did until just now.
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
    """What one pass has found. ``complete``: every key was looked at; ``fault``: why there was no
    pass, in one word."""

    apps: tuple[UnservedApp, ...] = ()
    complete: bool = True
    fault: str | None = None


class UnservedApps:
    """Looks for them; ``apps`` are those of the settings."""

    def __init__(self, link: RedisTopology, apps: Collection[str]) -> None:
        self._link = link
        self._apps = frozenset(apps)

    async def find(self, *, pause: float = 0.0, others: OtherKeys | None = None) -> Unserved:
        """One pass over every server; ``pause`` is in seconds, between two steps. ``others``
        measures the keys on the way. Never raises for Redis."""
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                servers = await self._link.primaries()
            passes = [await self._pass(server, pause, others) for server in servers.values()]
        except NoPermissionError:
            return Unserved(complete=False, fault="NOPERM")
        except EXCHANGE_FAULTS as error:
            return Unserved(complete=False, fault=str(fault_of_exchange(error)))
        found = sorted((one for some, _ in passes for one in some), key=lambda one: one.app)
        complete = all(ended for _, ended in passes) and len(found) <= MOST_APPS
        return Unserved(apps=tuple(found[:MOST_APPS]), complete=complete)

    async def _pass(
        self, server: Redis, pause: float, others: OtherKeys | None
    ) -> tuple[list[UnservedApp], bool]:
        """Those of one server, and whether all of its keys were looked at."""
        found: dict[str, set[str]] = {}
        cursor, looked, count = 0, 0, _KEYS_AT_ONCE
        of_type = "HASH" if others is None else None
        while True:
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    cursor, keys = await server.scan(cursor, _PATTERN, count, of_type)
            except AnswerTooLarge:
                # An app's names may have 512 MB: fewer at once, until it is one alone.
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
            if cursor == 0 or looked >= MOST_KEYS or len(found) > MOST_APPS:
                break
            await asyncio.sleep(pause)
        return await self._described(server, found), cursor == 0

    @staticmethod
    async def _described(server: Redis, found: Mapping[str, set[str]]) -> list[UnservedApp]:
        pipeline = server.pipeline(transaction=False)
        for app in found:
            pipeline.execute_command("PTTL", AppKeys(app).meta)
        async with asyncio.timeout(REDIS_SECONDS):
            # Of a key that the user has no right to, Redis says nothing: it is named all the same.
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
    """Looks for them now and then, for the metrics. ``found`` is the last pass, ``other_bytes`` the
    memory of the other keys of each app of ``served``."""

    def __init__(
        self,
        apps: UnservedApps,
        served: Collection[str] = (),
        *,
        every: float = 300.0,
        pause: float = 0.05,
    ) -> None:
        self._unserved = apps
        self._served = served
        self._every = every
        self._pause = pause
        self.found = Unserved(complete=False)
        self.other_bytes: Mapping[str, int] = {}

    async def keep_looking(self) -> None:
        """A pass every ``every`` seconds, with pauses in between. Never returns."""
        while True:
            others = OtherKeys(self._served) if self._served else None
            last = self.found.fault
            try:
                self.found = await self._unserved.find(pause=self._pause, others=others)
            except Exception:
                # Of ours: a fault of Redis is in what is found.
                log.exception("unserved", outcome="failed", error="internal")
                self.found = Unserved(complete=False, fault="internal")
            fault = self.found.fault
            self.other_bytes = others.sizes() if others is not None and fault is None else {}
            # A user that may not scan is a choice.
            if fault not in (None, last, "NOPERM", "internal"):
                log.warning("metrics", outcome="not_looked_through", error=fault)
            await asyncio.sleep(self._every)


def apps_of_settings(settings: Settings) -> set[str]:
    """Every app that a client of the settings leads to, and the canary's."""
    apps = {one.app for issuer in settings.issuers for one in issuer.clients}
    return apps | ({settings.canary.app} if settings.canary is not None else set())


def _app_of(key: bytes | str) -> tuple[str, str] | None:
    text = key.decode("utf-8", "replace") if isinstance(key, bytes) else key
    match = _KEY.fullmatch(text)
    # Names go to terminals and labels: none but those of the contract.
    if match is None or not APP_NAME.fullmatch(match["app"]):
        return None
    return match["app"], match["what"]
