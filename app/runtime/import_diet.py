"""Keeps libraries from importing optional packages that are never used. Imported first.

structlog imports rich for tracebacks, httpx imports rich and pygments for its command line,
redis-py imports OpenTelemetry for its metrics, and pydantic searches all packages for plugins.
Where these are installed, as in a development environment, they cost a sixth of the start or more,
and 5 MB per process (docs/performance.md). Traces import OpenTelemetry later.

Garbage collection is off meanwhile, which saves an eighth of the start, because importing creates
no garbage. The importer calls ``gc.enable`` afterwards.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _without(name: str) -> Iterator[None]:
    """Importing ``name`` fails within the block, as if it were not installed."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


# httpcore tries to import it several times for each request, a search of every path where it is
# not installed. It is for programs that do not run in asyncio.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

gc.disable()
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

with _without("rich"), _without("pygments"):
    import httpx  # noqa: F401
    import structlog  # noqa: F401
with _without("opentelemetry"):
    import redis.asyncio  # noqa: F401
