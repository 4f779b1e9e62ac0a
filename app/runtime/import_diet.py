"""Imported first by each process: what our libraries would bring along where it happens to be
installed, and nothing here uses.

structlog takes rich for tracebacks in a terminal, httpx rich and pygments for a command of its own,
redis-py the SDK of OpenTelemetry for metrics of its own; pydantic looks for plugins in all that is
installed. Where they are there, as in a development environment, they take a sixth of a start or
more, and 5 MB of each process (docs/performance.md). What traces need of OpenTelemetry is imported
later, as ever.

Nothing of what is imported is garbage, and to look for some among it takes an eighth of a start:
who imports this calls ``gc.enable`` once all is there.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Whoever imports it meanwhile is told that it is not installed."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


gc.disable()
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

with _without("rich"), _without("pygments"):
    import httpx  # noqa: F401
    import structlog  # noqa: F401
with _without("opentelemetry"):
    import redis.asyncio  # noqa: F401
