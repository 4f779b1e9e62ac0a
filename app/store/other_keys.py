"""Memory of the keys that an app has under ``app:`` besides those that are read.

A listener may write any name there. Nothing reads those keys, so their size is all that shows.
"""

import asyncio
import re
from collections.abc import Collection, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.store.command import packed
from app.store.topology import REDIS_SECONDS
from backchannel_logout.redis.pipeline import reused_pipelines

# In one round trip: a millisecond of the event loop.
_KEYS_AT_ONCE = 100

# Elements of one key that Redis looks at.
_SAMPLES = 1000

# `app_sizes` measures the three that are read.
_OTHER = re.compile(
    rb"bcl:v1:\{(?P<app>[^}]+)\}:app:(?!(?:readers|receipts|dead-letters)\Z).*", re.DOTALL
)


class OtherKeys:
    """What one pass over the database finds of ``apps``. Of a hash, list or stream with more than
    a thousand elements the size is an estimate."""

    def __init__(self, apps: Collection[str]) -> None:
        self._sizes = dict.fromkeys(apps, 0)
        self._unknown: set[str] = set()

    def sizes(self) -> dict[str, int]:
        """Bytes for each app, without the apps of which Redis does not say them all."""
        return {app: size for app, size in self._sizes.items() if app not in self._unknown}

    async def measure(self, server: Redis, keys: Sequence[bytes | str]) -> None:
        """Add those of ``keys`` that are an app's other keys."""
        found = [(app, key) for key in keys if (app := self._app_of(key)) is not None]
        async with reused_pipelines() as following:
            for start in range(0, len(found), _KEYS_AT_ONCE):
                some = found[start : start + _KEYS_AT_ONCE]
                commands = [packed("MEMORY", "USAGE", key, "SAMPLES", _SAMPLES) for _, key in some]
                sizes = await following.exchange(server, commands, within=REDIS_SECONDS)
                for (app, _), size in zip(some, sizes, strict=True):
                    if isinstance(size, RedisError):
                        self._unknown.add(app)
                    else:
                        self._sizes[app] += size or 0  # None: gone meanwhile
                await asyncio.sleep(0)

    def _app_of(self, key: bytes | str) -> str | None:
        match = _OTHER.fullmatch(key if isinstance(key, bytes) else key.encode())
        app = match["app"].decode("utf-8", "replace") if match is not None else None
        return app if app in self._sizes and app not in self._unknown else None
