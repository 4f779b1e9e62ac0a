"""The part of `traces` that needs OpenTelemetry, imported only if traces are enabled."""

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.responses import Response

from app import __version__
from app.server.paths import LOGOUT_PATH
from app.telemetry.attempt_log import AttemptRecord
from app.tracing import PREFIX

NAME = "backchannel-logout-receiver"


class RequestSpans:
    """Creates the span of a request."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        # Without `baggage`, which is not for us.
        self._propagator = TraceContextTextMapPropagator()

    @contextlib.contextmanager
    def of(
        self, headers: Mapping[str, str], record: AttemptRecord
    ) -> Iterator[Callable[[Response], Response]]:
        """A span for the block, with attributes of the record and of the response, which passes
        through the yielded function."""
        with self._tracer.start_as_current_span(
            f"POST {LOGOUT_PATH}",
            context=self._propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": "POST", "http.route": LOGOUT_PATH},
            record_exception=False,
        ) as span:
            record.trace_id = f"{span.get_span_context().trace_id:032x}"

            def answered(response: Response) -> Response:
                attributes = {
                    "issuer": record.issuer,
                    "outcome": record.outcome,
                    "reason": record.reason,
                    "request_id": record.request_id,
                }
                for name, value in attributes.items():
                    if value is not None:
                        span.set_attribute(PREFIX + name, str(value))
                span.set_attribute("http.response.status_code", response.status_code)
                if response.status_code >= 500:
                    span.set_status(Status(StatusCode.ERROR))
                return response

            yield answered


def provider_of(exporter: Any) -> TracerProvider:
    """Sends spans in batches; without an ``exporter`` over OTLP/HTTP."""
    if exporter is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,  # imports protobuf and an HTTP client
        )

        exporter = OTLPSpanExporter()
    resource = Resource.create(
        {"service.version": __version__, "service.instance.id": str(uuid.uuid4())}
    )
    if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: NAME}))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
