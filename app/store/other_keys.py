"""Measures the keys that an app has under ``app:`` beyond those of the contract.

A listener may write any name there. Nothing reads those keys, so only their size matters.
"""

import asyncio
import re
from collections.abc import Collection, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.store.command import packed
from app.store.topology import REDIS_SECONDS
from backchannel_logout.redis.pipeline import reused_pipelines

# Per round trip: a millisecond of the event loop.
_KEYS_AT_ONCE = 100

# Elements of one key that Redis inspects.
_SAMPLES = 1000

# `app_sizes` measures the three that the contract names.
_OTHER = re.compile(
    rb"bcl:v1:\{(?P<app>[^}]+)\}:app:(?!(?:readers|receipts|dead-letters)\Z).*", re.DOTALL
)


class OtherKeys:
    """The totals of one pass over the database, for ``apps``.

    The size of a hash, list or stream with more than a thousand elements is an estimate.
    """

    def __init__(self, apps: Collection[str]) -> None:
        self._sizes = dict.fromkeys(apps, 0)
        self._unknown: set[str] = set()

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each app, without the apps for which Redis does not report all."""
        return {app: size for app, size in self._sizes.items() if app not in self._unknown}

    async def measure(self, server: Redis, keys: Sequence[bytes | str]) -> None:
        """Add the keys among ``keys`` that are an app's other keys."""
        other = [(app, key) for key in keys if (app := self._app_of(key)) is not None]
        async with reused_pipelines() as pipeline:
            for start in range(0, len(other), _KEYS_AT_ONCE):
                chunk = other[start : start + _KEYS_AT_ONCE]
                commands = [packed("MEMORY", "USAGE", key, "SAMPLES", _SAMPLES) for _, key in chunk]
                sizes = await pipeline.exchange(server, commands, within=REDIS_SECONDS)
                for (app, _), size in zip(chunk, sizes, strict=True):
                    if isinstance(size, RedisError):
                        self._unknown.add(app)
                    else:
                        self._sizes[app] += size or 0  # None: deleted meanwhile
                await asyncio.sleep(0)

    def _app_of(self, key: bytes | str) -> str | None:
        match = _OTHER.fullmatch(key if isinstance(key, bytes) else key.encode())
        app = match["app"].decode("utf-8", "replace") if match is not None else None
        return app if app in self._sizes and app not in self._unknown else None
