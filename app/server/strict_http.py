"""uvicorn's HTTP/1.1 with the rules of RFC 9110 and 9112 that keep requests apart.

Whether a byte belongs to this request or to the next one must be the same for us and for a proxy
that shares a connection among its clients. Where it is not, the body of one client's request is
taken for the request of another (request smuggling).

    Upgrade       ignored: the request is read as if it had offered none (RFC 9110, 7.8)
    CONNECT       400: there is no body, and what follows is no HTTP
    Host          exactly one; HTTP/1.0 may have none (RFC 9112, 3.2)
    HTTP/2.0      400, as every version that is not written this way
    #fragment     400: no part of a request's target (RFC 9112, 3.2)
    after close   nothing is read behind a request that ends its connection (RFC 9112, 9.6)
    broken        400; where a request before it is at work, only that one is answered
"""

from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# 0.9 has no headers, and so no body: nothing of it can be taken for another request.
_VERSIONS = frozenset({"0.9", "1.0", "1.1"})

# Hop-by-hop, and only about the upgrade that is not made.
_UPGRADE_HEADERS = frozenset({b"connection", b"upgrade", b"http2-settings"})


class BrokenRequest(Exception):
    """Stops the parser: the request is answered with 400 and its connection ends."""


class _LastRequest(Exception):
    """Stops the parser behind a request that ends its connection."""


class StrictHttp(HttpToolsProtocol):
    """One connection. Overrides `request_head` and `request_end`, not the parser's callbacks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._hosts = 0
        """Host headers of the request that is being read."""
        self._offers_upgrade = False
        self._keeps_alive = True
        """Whether another request may follow the one that is being read."""
        self._deaf = False
        """Nothing more is parsed."""
        self._broken = False

    def feed(self, data: bytes) -> None:
        """Parse ``data``, which has come behind all that was fed before."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            # The parser took the request to be complete behind its head. It is not asked again.
            self._offers_upgrade = False
            head = self._head_without_upgrade()
            self.parser = httptools.HttpRequestParser(self)
            self.feed(head + data[stopped.args[0] :])
        except httptools.HttpParserError:
            if not self._deaf:
                self.refuse_broken()

    def refuse_broken(self) -> None:
        """Answer what cannot be parsed with 400, and end the connection. Where requests before it
        are at work, they are answered, and then it ends without a 400."""
        self._deaf = self._broken = True
        latest = self.cycle
        if latest is None or latest.response_complete:
            self.send_400_response("Invalid HTTP request received.")
        elif latest.more_body and not self.pipeline:
            # Its own body is broken. The application may not answer any more.
            latest.disconnected = True
            latest.message_event.set()
            if latest.response_started:
                self.transport.close()
            else:
                self.send_400_response("Invalid HTTP request received.")
        else:
            latest.keep_alive = False

    def _head_without_upgrade(self) -> bytes:
        """The head that has just been read, so that the connection ends with its request."""
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
        self._hosts = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
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
            self.request_end()
            if not self._keeps_alive:
                self._deaf = True
                raise _LastRequest

    # -- requests ---------------------------------------------------------------------------

    def request_head(self) -> None:
        """A head has come, and all of it is valid."""
        super().on_headers_complete()
        self._keeps_alive = self.cycle.keep_alive
        # An answer that comes before the end of the body is the last one.
        self.cycle.keep_alive = False

    def request_end(self) -> None:
        """Its body has come, too."""
        if not self.cycle.response_started:
            self.cycle.keep_alive = self._keeps_alive
        super().on_message_complete()
