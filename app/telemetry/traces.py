"""Traces to OpenTelemetry, where ``otel = true``: from a provider's request to Redis.

    POST /backchannel-logout     below the caller's span, by the W3C header `traceparent`
        verify                   signature, with the wait for a key that is not at hand
            keys.fetch           the fetch that it began
        store                    Redis, with what has to be waited for there, or the journal

What is sent where, and how much, the SDK's own variables say (``OTEL_EXPORTER_OTLP_ENDPOINT``,
``OTEL_TRACES_SAMPLER``, ...). Attributes name issuer, outcome and reason, and no user. A traced
request takes the way through ASGI; without traces nothing of OpenTelemetry is even imported.
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

# At the end, for what was not sent yet; a collector that is away must not hold up a stop.
_LAST_SECONDS = 2.0


class TracesFault(Exception):
    """Traces are wanted and can not be had. The message is for the operator."""


class Tracing(Protocol):
    """Makes the span of a request, and tells the story its trace's id."""

    def of(
        self, headers: Mapping[str, str], story: AttemptRecord
    ) -> AbstractContextManager[Callable[[Response], Response]]:
        """For as long as the request is at work; what it gives is told the answer."""


@contextlib.contextmanager
def tracing(settings: Settings, exporter: Any = None) -> Iterator[Tracing | None]:
    """Traces for as long as the block lasts; None where they are not wanted.

    ``exporter`` is in place of the one over OTLP. Raises `TracesFault`.
    """
    if not settings.otel:
        yield None
        return
    try:
        from app.telemetry.otel import NAME, RequestSpans, provider_of  # noqa: PLC0415  only where wanted

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
        # In a thread that nobody has to wait for.
        last = threading.Thread(target=provider.shutdown, daemon=True)
        last.start()
        last.join(_LAST_SECONDS)
