"""A threaded HTTP server at a loopback address, for servers that can misbehave."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self


class LoopbackHandler(BaseHTTPRequestHandler):
    """Answers for the `LoopbackServer` in ``owner``."""

    owner: Any

    def wait_for_release(self) -> None:
        """Send nothing until the server stops, up to 30 s."""
        self.owner.released.wait(30)

    def drip(self) -> None:
        """Send a byte at a time until the server stops."""
        while not self.owner.released.wait(0.2):
            self.wfile.write(b" ")

    def handle(self) -> None:
        # A client that is kept waiting hangs up, as it should.
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class LoopbackServer:
    """Serves with ``handler_type`` while it is entered."""

    handler_type: ClassVar[type[LoopbackHandler]]

    def __init__(self, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.released = threading.Event()
        handler = type("Handler", (self.handler_type,), {"owner": self})
        self._server = ThreadingHTTPServer(address, handler)
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
        self.stop_listening()
        self._thread.join()

    def stop_listening(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()
