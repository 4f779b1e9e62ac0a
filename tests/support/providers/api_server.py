"""A provider's API for one test: real HTTP on loopback, which can misbehave in many ways."""

import json
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.servers.http_server import LoopbackHandler, LoopbackServer


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


class _ApiHandler(LoopbackHandler):
    owner: "ApiServer"
    protocol_version = "HTTP/1.1"
    # Head and body are two writes; with Nagle's algorithm the second waits 40 ms for an ACK.
    disable_nagle_algorithm = True

    def _any(self) -> None:
        api, parts = self.owner, urlsplit(self.path)
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
            self.drip()
        self.wait_for_release()

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


class ApiServer(LoopbackServer):
    """Answers with `answer`, or with the next of ``faults`` if there is one.

    A fault is a `Response`, or ``hang`` (no headers), ``drip`` (a byte at a time), ``cut`` (the
    connection ends in the middle).
    """

    handler_type = _ApiHandler

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.faults: deque[Response | str] = deque()
        self.lock = threading.Lock()

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
