"""Adapts the markers in Redis to a ``max_session_age`` that was raised.

A marker lives as long as the sessions that it may end, as of when it was written. With a larger
``max_session_age`` those sessions may live longer, and would come back when the marker expires.
Markers that have expired already ended sessions that were too old at that time: one marker for
each issuer of the app keeps all of these ended.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from importlib.resources import files

from redis.asyncio import Redis

from app.log import new_log
from app.revocation import MARKER_MARGIN_SECONDS
from app.store.app_meta import AppMetas
from app.store.errors import EXCHANGE_FAULTS, fault_of
from app.store.session_ages import Raise
from app.store.topology import RedisTopology
from backchannel_logout import AppKeys

log = new_log(__name__)

_SCRIPT = files(__package__).joinpath("extend_markers.lua").read_text("utf-8")

# Neither lowers a cutoff nor shortens a life.
_END_SCRIPT = """
local old, ttl = tonumber(redis.call('GET', KEYS[1]) or ''), tonumber(ARGV[2])
local left = redis.call('PTTL', KEYS[1])
if left == -1 then return 0 end
local cutoff = (old and old > tonumber(ARGV[1])) and old or ARGV[1]
redis.call('SET', KEYS[1], cutoff, 'PX', string.format('%d', math.max(left, ttl)))
return 1
"""

_PAUSE, _MAX_PAUSE = 1.0, 60.0

# Keys that one SCAN looks at: short enough for logouts to get in between.
_COUNT = 1000

_KINDS = tuple(f":{kind}:" for kind in ("sid", "sub", "all"))


async def extend_markers(
    server: Redis,
    raised: Mapping[str, Raise],
    issuers: Callable[[str], Iterable[str]],
    *,
    dry_run: bool = False,
    clock: Callable[[], float] = time.time,
) -> dict[str, int]:
    """Extend the markers of these apps on their server; returns how many of each app. ``issuers``
    returns every name of an app's issuers.

    With ``dry_run`` it counts the markers that would be looked at, and writes nothing. Running it
    again changes nothing more. Raises the library's errors; what was extended stays so.
    """
    done = dict.fromkeys(raised, 0)
    if not dry_run:
        for app, ages in raised.items():
            await _end_the_older(server, AppKeys(app), ages, issuers(app), clock())
    async for app, markers in _markers(server, raised):
        if dry_run:
            done[app] += len(markers)
        else:
            life = raised[app].new + MARKER_MARGIN_SECONDS
            arguments = (*markers, str(life), str(int(clock())))
            done[app] += int(await server.eval(_SCRIPT, len(markers), *arguments))
    return done


async def _end_the_older(
    server: Redis, keys: AppKeys, ages: Raise, issuers: Iterable[str], now: float
) -> None:
    """Keep ended what was too old until now: its markers may have expired."""
    cutoff = int(now) - ages.old - 1
    ttl = cutoff + ages.new + MARKER_MARGIN_SECONDS - int(now)
    for iss in issuers:
        await server.eval(_END_SCRIPT, 1, keys.all(iss), str(cutoff), str(ttl * 1000))


async def _markers(server: Redis, apps: Iterable[str]) -> AsyncIterator[tuple[str, list[str]]]:
    """The markers of these apps, a few at a time, each time of one app."""
    wanted = {AppKeys(app).prefix: app for app in apps}
    cursor = 0
    while True:
        cursor, names = await server.scan(cursor, match="bcl:v1:{*}:*", count=_COUNT)
        found: dict[str, list[str]] = {}
        for name in names:
            text = name.decode() if isinstance(name, bytes) else name
            prefix, brace, rest = text.partition("}:")
            app = wanted.get(prefix + brace)
            if app is not None and f":{rest}".startswith(_KINDS):
                found.setdefault(app, []).append(text)
        for app, markers in found.items():
            yield app, markers
        if cursor == 0:
            return


class MarkerExtension:
    """Extends markers in the background wherever ``max_session_age`` was raised."""

    def __init__(self, metas: AppMetas, topology: RedisTopology) -> None:
        self._metas = metas
        self._topology = topology

    async def keep_extending(self) -> None:
        """Look once a second for something to extend. Never returns."""
        pause = _PAUSE
        while True:
            await asyncio.sleep(pause)
            try:
                await self.extend()
                pause = _PAUSE
            except EXCHANGE_FAULTS as error:
                # The smaller age stays in force: no marker expires too early.
                log.error("markers", outcome="not_extended", error=str(fault_of(error)))
                pause = min(pause * 2, _MAX_PAUSE)
            except Exception:
                log.exception("markers", outcome="not_extended", error="internal")
                pause = min(pause * 2, _MAX_PAUSE)

    async def extend(self) -> None:
        """Extend the markers of each app for which that is due."""
        by_server: dict[Redis, dict[str, Raise]] = {}
        for app, ages in [*self._metas.ages.to_extend.items()]:
            by_server.setdefault(await self._topology.primary(app), {})[app] = ages
        for server, raised in by_server.items():
            done = await extend_markers(server, raised, self._metas.issuers)
            for app, ages in raised.items():
                log.info(
                    "markers", outcome="extended", app=app, markers=done[app], **ages._asdict()
                )
                first = self._metas.ages.extended(app)
                self._metas.extending(app, ages.old if first else None)
