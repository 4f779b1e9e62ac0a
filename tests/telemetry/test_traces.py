"""Traces: from the provider's request to Redis, without users, and nothing where they are off."""

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app import tracing as spans
from app.config.load import load
from app.publish.publisher import Publisher
from app.runtime.components import Components
from app.server.paths import LOGOUT_PATH as PATH
from app.store.topology import connect
from app.telemetry.metrics.counters import Counters
from app.telemetry.reporting import Reporting
from app.telemetry.traces import tracing
from app.tokens.fetch import new_client
from tests.support.providers.provider import Provider, private_key
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@dataclass
class Traced:
    """The components in this process, and the spans that they create."""

    http: httpx.AsyncClient
    exporter: InMemorySpanExporter
    provider: Provider
    flush: Callable[[], bool]

    def __post_init__(self) -> None:
        self.spans()  # the first fetch of the keys

    async def post(self, token: str, **headers: str) -> httpx.Response:
        return await self.http.post(PATH, data={"logout_token": token}, headers=headers)

    def spans(self) -> dict[str, ReadableSpan]:
        """The spans since the last call, by name."""
        self.flush()
        spans = {span.name: span for span in self.exporter.get_finished_spans()}
        self.exporter.clear()
        return spans


@pytest.fixture
async def traced(
    tmp_path: Path, provider: Provider, redis_server: RedisServer
) -> AsyncIterator[Traced]:
    path = tmp_path / "settings.toml"
    top = f'otel = true\ndata_dir = "{tmp_path}"'
    path.write_text(config(redis_server.url, f'issuer = "{provider.issuer}"', top=top))
    settings, exporter = load(path, {}), InMemorySpanExporter()
    async with new_client() as client:
        redis = connect(redis_server.url)
        counters = Counters(settings)
        publisher, reporting = Publisher(settings, redis), Reporting(settings, redis, counters)
        with tracing(settings, exporter) as traces:
            async with publisher.running(), reporting.running():
                parts = Components(settings, publisher, lambda: client, counters, reporting, traces)
                for keys in parts.keys.values():
                    await keys.refresh()
                app = httpx.ASGITransport(parts.public_app)
                async with httpx.AsyncClient(transport=app, base_url="http://receiver") as http:
                    yield Traced(http, exporter, provider, spans._tracer.span_processor.force_flush)
                for keys in parts.keys.values():
                    await keys.aclose()


async def test_a_logout_is_a_request_with_verify_and_store_below_the_callers_span(
    traced: Traced,
) -> None:
    answer = await traced.post(traced.provider.token(sid="s", sub="alice"), **CALLER)
    assert answer.status_code == 200
    spans = traced.spans()
    request = spans["POST /backchannel-logout"]
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT
    for name in ("verify", "store"):
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == request.context.span_id
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    attributes = dict(request.attributes or {})
    assert attributes.pop("bcl.request_id")
    assert attributes == {
        "http.request.method": "POST",
        "http.route": PATH,
        "http.response.status_code": 200,
        "bcl.issuer": traced.provider.issuer,
        "bcl.outcome": "accepted",
    }


async def test_a_key_fetch_is_a_child_of_the_verification(
    traced: Traced,
) -> None:
    traced.provider.rotate("k2")
    assert (await traced.post(traced.provider.token())).status_code == 200
    spans = traced.spans()
    fetch = spans["keys.fetch"].parent
    assert fetch is not None
    assert fetch.span_id == spans["verify"].context.span_id


async def test_a_refusal_has_its_reason_and_nothing_of_the_token(traced: Traced) -> None:
    token = traced.provider.token(sid="secret-sid", sub="secret-sub", key=private_key("RS256", 9))
    answer = await traced.post(token)
    assert answer.status_code == 400
    spans = traced.spans()
    request = spans["POST /backchannel-logout"]
    attributes = dict(request.attributes or {})
    assert (attributes["bcl.outcome"], attributes["bcl.reason"]) == ("refused", "signature")
    assert attributes["bcl.request_id"] == answer.headers["x-request-id"]
    assert dict(spans["verify"].attributes or {})["error.type"] == "signature"
    kept = "".join(span.to_json() for span in spans.values())
    for secret in ("secret-", *token.split(".")):
        assert secret not in kept
    assert all(not span.events for span in spans.values())


async def test_a_503_is_an_error(traced: Traced) -> None:
    traced.provider.mode = "500"
    traced.provider.rotate("k2")
    assert (await traced.post(traced.provider.token())).status_code == 503
    request = traced.spans()["POST /backchannel-logout"]
    assert not request.status.is_ok
    assert dict(request.attributes or {})["bcl.reason"] == "keys_unavailable"


def test_without_traces_there_are_no_spans() -> None:
    assert spans.span("verify", issuer="x") is spans.span("store", issuer="y")


@pytest.mark.slow
def test_without_traces_opentelemetry_is_not_imported() -> None:
    """Not by us; redis-py imports a part of it if it is installed."""
    ours = "{'app.telemetry.otel', 'opentelemetry.sdk.trace'}"
    code = f"import sys, app.cli.serve; print({ours} & {{*sys.modules}})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


# -- over OTLP ------------------------------------------------------------------------------


class Collector:
    """A collector of OTLP/HTTP."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def spans(self) -> list[tuple[str, Any]]:
        """Each span with the id of its service instance."""
        spans = []
        for request in self.requests:
            for resource in request.resource_spans:
                attributes = {
                    attribute.key: attribute.value.string_value
                    for attribute in resource.resource.attributes
                }
                assert attributes["service.name"] == "backchannel-logout-receiver"
                spans += [
                    (attributes["service.instance.id"], span)
                    for scope in resource.scope_spans
                    for span in scope.spans
                ]
        return spans

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def new_receiver(
    path: Path, server: RedisServer, provider: Provider, collector: str, top: str
) -> Receiver:
    toml = config(server.url, f'issuer = "{provider.issuer}"', top=f"otel = true\n{top}")
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    return Receiver(path, toml, env=env)


@pytest.mark.slow
def test_a_collector_gets_the_spans_of_every_token(
    tmp_path: Path, redis_server: RedisServer, provider: Provider,
    collector: Collector,
) -> None:  # fmt: skip
    receiver = new_receiver(tmp_path, redis_server, provider, collector.url, "").start()
    try:
        for n in range(20):
            data = {"logout_token": provider.token(sid=str(n))}
            url = receiver.url + PATH
            assert httpx.post(url, data=data, headers=CALLER, trust_env=False).status_code == 200
    finally:
        assert receiver.stop() == 0
    stored = [(who, span) for who, span in collector.spans() if span.name == "store"]
    assert len(stored) == 20, "including the spans of the last moment"
    assert {span.trace_id.hex() for _, span in stored} == {TRACE}
    assert len({who for who, _ in stored}) == 1
    (line, *_) = receiver.log_events("logout", outcome="accepted")
    assert line["trace_id"] == TRACE


@pytest.mark.slow
def test_a_collector_that_is_away_delays_neither_answer_nor_end(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    receiver = new_receiver(tmp_path, redis_server, provider, "http://127.0.0.1:1", "").start()
    assert receiver.post(provider.token()).status_code == 200
    wait_for(lambda: receiver.log_events("logout", outcome="accepted"), "it is logged", receiver)
    assert receiver.stop() == 0


@pytest.mark.slow
def test_without_the_extra_the_error_names_the_package_to_install(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """An empty package of that name takes the place of one that is not installed."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry/__init__.py").touch()
    toml = config(redis_server.url, f'issuer = "{provider.issuer}"', top="otel = true")
    (tmp_path / "settings.toml").write_text(toml)
    code = "import sys; sys.path.insert(0, '.'); from app.cli import main; sys.exit(main())"
    ran = subprocess.run(
        [sys.executable, "-c", code, "serve", "--config", "settings.toml"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
    )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stderr.startswith("cannot start: otel: OpenTelemetry is not installed")
