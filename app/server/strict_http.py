"""HTTP/1.1 with the rules of RFC 9110 and 9112 that keep requests apart, on top of uvicorn.

We and a proxy that shares a connection among its clients must agree on which request a byte belongs
to. Otherwise one client's body is taken for the request of another (request smuggling).

    Upgrade       ignored: read as a request that offers none (RFC 9110, 7.8)
    CONNECT       400: it has no body, and what follows is not HTTP
    Host          exactly one; HTTP/1.0 may have none (RFC 9112, 3.2)
    HTTP/2.0      400, as every version that is not written this way
    #fragment     400: not part of a request's target (RFC 9112, 3.2)
    after close   nothing is read after a request that ends its connection (RFC 9112, 9.6)
    broken        400; where an earlier request is unanswered, only that one is answered
"""

from typing import Any

import httptools

from app.server.uvicorn_internals import HttpToolsProtocol

# HTTP/0.9 has no headers, and so no body: nothing of it can be taken for another request.
_VERSIONS = frozenset({"0.9", "1.0", "1.1"})

# Hop-by-hop headers, only about the upgrade that does not happen.
_UPGRADE_HEADERS = frozenset({b"connection", b"upgrade", b"http2-settings"})

# Real requests have 10 to 30. Each costs a hundred bytes here, however short it is.
MAX_HEADERS = 200


class BrokenRequest(Exception):
    """Stops the parser: the request is answered with 400 and its connection ends."""


class _LastRequest(Exception):
    """Stops the parser after a request that ends its connection."""


class StrictHttp(HttpToolsProtocol):
    """One connection. Subclasses override `request_head` and `request_end`, not the parser's
    callbacks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hosts = 0
        """Host headers of the request being read."""
        self._in_request = False
        """The parser has begun a request and not completed it."""
        self._in_head = True
        """No head is complete of the request being read, or of the next one."""
        self._offers_upgrade = False
        self._keeps_alive = True
        """Whether another request may follow the one being read."""
        self._stopped_reading = False
        """Nothing more is parsed."""
        self._broken = False

    def feed(self, data: bytes) -> None:
        """Parse the next bytes."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            # The parser considers the request complete after its head. Parse it again without.
            self._offers_upgrade = False
            head = self._head_without_upgrade()
            self.parser = httptools.HttpRequestParser(self)
            self.feed(head + data[stopped.args[0] :])
        except httptools.HttpParserError:
            if not self._stopped_reading:
                self.refuse_broken()

    def refuse_broken(self) -> None:
        """Answer 400 to what cannot be parsed, and end the connection. If earlier requests are
        unanswered, answer those and end it without a 400."""
        self._stopped_reading = self._broken = True
        latest = self.cycle
        if latest is None or latest.response_complete:
            self.send_400_response("Invalid HTTP request received.")
        elif latest.more_body and not self.pipeline:
            # Its own body is broken. The application must not answer any more.
            latest.disconnected = True
            latest.message_event.set()
            if latest.response_started:
                self.transport.close()
            else:
                self.send_400_response("Invalid HTTP request received.")
        else:
            latest.keep_alive = False

    def _head_without_upgrade(self) -> bytes:
        """The head that was just read, changed to end the connection with its request."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version), b"connection: close"]
        lines += [
            b"%s: %s" % (name, value)
            for name, value in self.headers
            if name not in _UPGRADE_HEADERS
        ]
        return b"\r\n".join((*lines, b"", b""))

    # -- the parser's callbacks -----------------------------------------------------------

    def on_message_begin(self) -> None:
        # uvicorn's own part comes in `request_head`, for requests that go to ASGI.
        self._in_request = True
        self._hosts = 0
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer, which is not part of the head (RFC 9110, 6.5.1)
        if len(self.headers) >= MAX_HEADERS:
            raise BrokenRequest
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        if version not in _VERSIONS or (self._hosts != 1 and (self._hosts or version == "1.1")):
            raise BrokenRequest
        if b"#" in self.url:
            raise BrokenRequest
        if not self.parser.should_upgrade():
            self.request_head()
        elif self.parser.get_method() == b"CONNECT":
            raise BrokenRequest
        else:
            self._offers_upgrade = True

    def on_message_complete(self) -> None:
        if not self._offers_upgrade:
            self._in_request = False
            self.request_end()
            if not self._keeps_alive:
                self._stopped_reading = True
                raise _LastRequest

    # -- requests ---------------------------------------------------------------------------

    def request_head(self) -> None:
        """Start the ASGI application of a request whose head is complete and valid."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the list that the scope holds
        super().on_headers_complete()
        self._keeps_alive = self.cycle.keep_alive
        # A response before the end of the body is the connection's last one.
        self.cycle.keep_alive = False

    def request_end(self) -> None:
        """Pass on that the body is complete."""
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive
        super().on_message_complete()
