"""Rows about apps that other receivers serve with another ``max_session_age``."""

from collections.abc import Sequence
from itertools import islice

from redis.asyncio import Redis

from app.cli.table import Row
from app.history.service_status import age_conflict_row
from app.store.app_meta import AppMetas, ages_in, this_process
from app.store.session_ages import SessionAges
from app.store.topology import RedisTopology
from backchannel_logout import AppKeys

# One round trip.
_CHUNK = 500


async def age_rows(topology: RedisTopology, metas: AppMetas, apps: Sequence[str]) -> list[Row]:
    """Raises the library's errors if a server cannot be reached."""
    own = {app: metas.own_age(app) for app in apps}
    ages = SessionAges(own, this_process(), began=0.0)
    by_server: dict[Redis, list[str]] = {}
    for app in apps:
        by_server.setdefault(await topology.primary(app), []).append(app)
    for server, of_server in by_server.items():
        left = iter(of_server)
        while chunk := list(islice(left, _CHUNK)):
            pipeline = server.pipeline(transaction=False)
            for app in chunk:
                pipeline.hgetall(AppKeys(app).meta)
            for app, meta in zip(chunk, await pipeline.execute(raise_on_error=False), strict=True):
                if isinstance(meta, dict):
                    ages.in_force(app, meta, ages_in(meta))
    return [age_conflict_row(app, *conflict) for app, conflict in sorted(ages.conflicts.items())]
