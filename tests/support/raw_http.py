"""HTTP as bytes: what a client can send that no library does."""

import re
import socket
import time
from typing import Self

FORM = "application/x-www-form-urlencoded"


def logout_request(
    token: str, *headers: str, media_type: str = FORM, path: str = "/backchannel-logout"
) -> bytes:
    """A POST of ``token`` with further header lines."""
    body = f"logout_token={token}"
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Content-Type: {media_type}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


class RawConnection:
    """Sends bytes as they are, and reads answers one by one. ``url`` is a listener's."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *pieces: bytes, pause: float = 0.0) -> Self:
        for piece in pieces:
            self.socket.sendall(piece)
            time.sleep(pause)
        return self

    def answer(self) -> bytes:
        """The next answer, without its date."""
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, _, rest = self._read.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        size = int(length[1]) if length else 0
        while len(rest) < size:
            self._more()
            rest = self._read.partition(b"\r\n\r\n")[2]
        self._read = rest[size:]
        return re.sub(rb"date: [^\r]+", b"date: -", head) + b"\r\n\r\n" + rest[:size]

    def answers_until_end(self) -> list[bytes]:
        """The status of each answer until the server closes its side."""
        while chunk := self.socket.recv(65536):
            self._read += chunk
        found = []
        while self._read:
            found.append(self.answer()[9:12])
        return found

    def _more(self) -> None:
        got = self.socket.recv(65536)
        assert got, "the connection has ended"
        self._read += got

    def has_ended(self) -> bool:
        return not self._read and self.socket.recv(1) == b""
