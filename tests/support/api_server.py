"""A provider's API of a test's own: real HTTP on loopback, and every way to misbehave."""

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
    """What came in. ``path`` is as it was sent, ``segments`` are decoded once."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    form: dict[str, str]
    segments: tuple[str, ...]


@dataclass(frozen=True)
class Response:
    """What goes out; ``body`` is sent as JSON unless it is bytes, and None is no body."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


class ApiServer:
    """Answers with `answer`, unless a fault is next in ``faults``.

    A fault is a `Response`, or ``hang`` (headers never come), ``drip`` (a byte at a time), ``cut``
    (the connection ends in the middle).
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: deque[Response | str] = deque()
        self.released = threading.Event()
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"server_of_ours": self})
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
        """The API itself."""
        raise NotImplementedError

    def is_misbehaving(self, request: Request) -> bool:
        """Whether ``faults`` are for this request; the token endpoint is spared, for example."""
        del request
        return True

    def paths(self, method: str) -> list[str]:
        """The paths that were asked for with this method."""
        return [request.path for request in self.requests if request.method == method]


class _Handler(BaseHTTPRequestHandler):
    """Answers for the `ApiServer` in ``server_of_ours``."""

    server_of_ours: ApiServer
    protocol_version = "HTTP/1.1"
    # Head and body are two writes: else the second waits 40 ms for the client's nod.
    disable_nagle_algorithm = True

    def _any(self) -> None:
        server, parts = self.server_of_ours, urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            form=dict(parse_qsl(body.decode())),
            segments=tuple(unquote(one) for one in parts.path.split("/")[1:]),
        )
        with server.lock:
            server.requests.append(request)
            fault = None
            if server.faults and server.is_misbehaving(request):
                fault = server.faults.popleft()
            response = server.answer(request) if fault is None else fault
        if isinstance(response, str):
            self._misbehave(response)
        else:
            self._send(response)

    do_GET = do_POST = do_DELETE = _any  # noqa: N815  names of the library

    def _misbehave(self, how: str) -> None:
        self.close_connection = True
        if how == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
            return
        if how == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while not self.server_of_ours.released.wait(0.2):
                self.wfile.write(b" ")
        self.server_of_ours.released.wait(30)

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
        # Who is kept waiting hangs up, as it should.
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Nothing."""
