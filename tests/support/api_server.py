"""A provider's API for one test: real HTTP on loopback, which can misbehave in many ways."""

import contextlib
import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """A request. ``path`` is as it was sent, ``segments`` are decoded once."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    form: dict[str, str]
    segments: tuple[str, ...]


@dataclass(frozen=True)
class Response:
    """A response. ``body`` is sent as JSON unless it is bytes; None is no body."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class ApiServer:
    """Answers with `answer`, or with the next of ``faults`` if there is one.

    A fault is a `Response`, or ``hang`` (no headers), ``drip`` (a byte at a time), ``cut`` (the
    connection ends in the middle).
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: deque[Response | str] = deque()
        self.released = threading.Event()
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request) -> Response:
        """The API's response, without a fault."""
        raise NotImplementedError

    def is_misbehaving(self, request: Request) -> bool:
        """Whether ``faults`` apply to this request, which a subclass may limit."""
        del request
        return True

    def paths(self, method: str) -> list[str]:
        """The paths of the requests with this method."""
        return [request.path for request in self.requests if request.method == method]


class _Handler(BaseHTTPRequestHandler):
    """Answers for the `ApiServer` in ``api``."""

    api: ApiServer
    protocol_version = "HTTP/1.1"
    # Head and body are two writes; with Nagle's algorithm the second waits 40 ms for an ACK.
    disable_nagle_algorithm = True

    def _any(self) -> None:
        api, parts = self.api, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            form=dict(parse_qsl(body.decode())),
            segments=tuple(unquote(segment) for segment in parts.path.split("/")[1:]),
        )
        with api.lock:
            api.requests.append(request)
            fault = None
            if api.faults and api.is_misbehaving(request):
                fault = api.faults.popleft()
            response = api.answer(request) if fault is None else fault
        if isinstance(response, str):
            self._misbehave(response)
        else:
            self._send(response)

    do_GET = do_POST = do_DELETE = _any  # noqa: N815  the library's names

    def _misbehave(self, how: str) -> None:
        self.close_connection = True
        if how == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
            return
        if how == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while not self.api.released.wait(0.2):
                self.wfile.write(b" ")
        self.api.released.wait(30)

    def _send(self, response: Response) -> None:
        body = response.body
        if not isinstance(body, bytes):
            body = b"" if body is None else json.dumps(body).encode()
        self.send_response(response.status)
        for name, value in {"Content-Type": "application/json", **response.headers}.items():
            self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        # A client that is kept waiting hangs up, as it should.
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Log nothing."""
