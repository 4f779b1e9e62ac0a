"""HTTP as bytes, for requests that no library sends."""

import re
import socket
import time
from typing import Self

FORM = "application/x-www-form-urlencoded"


def logout_request(
    token: str, *headers: str, media_type: str = FORM, path: str = "/backchannel-logout"
) -> bytes:
    """A POST of ``token`` with additional header lines."""
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
    """Sends bytes to a listener's URL unchanged, and reads one response after another."""

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
        """The next response, without its date."""
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
        """The status of each response until the server closes its side."""
        while chunk := self.socket.recv(65536):
            self._read += chunk
        statuses = []
        while self._read:
            statuses.append(self.answer()[9:12])
        return statuses

    def _more(self) -> None:
        chunk = self.socket.recv(65536)
        assert chunk, "the connection has ended"
        self._read += chunk

    def has_ended(self) -> bool:
        return not self._read and self.socket.recv(1) == b""
