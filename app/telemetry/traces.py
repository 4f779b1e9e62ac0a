"""Traces for OpenTelemetry, from a provider's request to Redis, if ``otel = true``.

    POST /backchannel-logout     child of the caller's span (W3C header `traceparent`)
        verify                   signature, including the wait for a missing key
            keys.fetch           the fetch that it started
        store                    Redis, including its queue, or the journal

The SDK's own variables (``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_TRACES_SAMPLER``, ...) configure
the export. Attributes name issuer, outcome and reason, but no user. Traced requests use the
Starlette endpoint; without traces, OpenTelemetry is not imported.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from starlette.responses import Response

from app import __version__
from app.config.model import Settings
from app.telemetry.attempt_log import AttemptRecord
from app.tracing import switch

# For unsent spans at the end. An unreachable collector must not delay a stop.
_SHUTDOWN_SECONDS = 2.0


class TracesFault(Exception):
    """Traces are enabled but not available. The message is for the operator."""


class Tracing(Protocol):
    """Creates the span of a request, and sets the trace id in its record."""

    def of(
        self, headers: Mapping[str, str], record: AttemptRecord
    ) -> AbstractContextManager[Callable[[Response], Response]]:
        """A span for the block. It yields a function through which the response passes."""


@contextlib.contextmanager
def tracing(settings: Settings, exporter: Any = None) -> Iterator[Tracing | None]:
    """Trace for as long as the block lasts; yields None if traces are off.

    ``exporter`` replaces the one for OTLP. Raises `TracesFault`.
    """
    if not settings.otel:
        yield None
        return
    try:
        from app.telemetry.otel import NAME, RequestSpans, provider_of  # noqa: PLC0415  only if enabled

        provider = provider_of(exporter)
    except ImportError:
        raise TracesFault(
            "otel: OpenTelemetry is not installed; install the extra [otel], or leave it off"
        ) from None
    tracer = provider.get_tracer(NAME, __version__)
    switch(tracer)
    try:
        yield RequestSpans(tracer)
    finally:
        switch(None)
        # In a daemon thread, which does not block the exit of the process.
        shutdown = threading.Thread(target=provider.shutdown, daemon=True)
        shutdown.start()
        shutdown.join(_SHUTDOWN_SECONDS)
