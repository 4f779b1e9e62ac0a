"""The load generator: sends prepared requests over persistent connections and counts every answer.

It runs in the bench's own process, on another core than the server. It loops over plain sockets,
because an HTTP library would take longer for a request than the servers do.
"""

import gc
import os
import random
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

CONNECTIONS = 32

# Far longer than any answer takes, even from a server that is far behind.
_PATIENCE = 20.0

_MAX_ANSWER = 65536


class LoadFault(Exception):
    """The server closed the connection, did not answer, or did not answer with HTTP."""


@dataclass(slots=True)
class LoadResult:
    """The result of a run. Times are seconds."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """From when a request was due to its complete answer. At a fixed rate this includes the wait
    for a free connection."""
    sent: list[float] = field(default_factory=list)
    """When each request was sent, in order, by ``time.perf_counter``. For a request that waited for
    a free connection, when it was due, because it waited for the server."""
    statuses: Counter[int] = field(default_factory=Counter)
    refusal: bytes = b""
    """The last answer that was not a success."""
    own_cpu: float = 0.0
    """The processor time of the load generator."""

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    @property
    def busy(self) -> float:
        """The load generator's share of its core; near 1, it is the bottleneck."""
        return self.own_cpu / self.seconds


def send(
    port: int,
    requests: Sequence[bytes],
    *,
    rate: float | None = None,
    connections: int = CONNECTIONS,
) -> LoadResult:
    """Sends each request once and waits for all answers.

    Without a ``rate``, each connection sends its next request after each answer. With one, requests
    are due at random moments, ``rate`` a second on average, whether or not the server keeps up (a
    Poisson process, the same one every time). Raises `LoadFault`.
    """
    dues = None if rate is None else moments(len(requests), rate)
    outcome = LoadResult()
    with _connected(port, connections) as links, _without_gc():
        cpu_before, start = time.process_time(), time.perf_counter()
        _Run(links, requests, dues, outcome).run(start)
        outcome.seconds = time.perf_counter() - start
        outcome.own_cpu = time.process_time() - cpu_before
    return outcome


def moments(count: int, rate: float) -> list[float]:
    """When ``count`` requests are due, ``rate`` a second on average: seconds from the start."""
    draw, moment, dues = random.Random(1), 0.0, list[float]()  # noqa: S311  deliberately repeatable
    for _ in range(count):
        moment += draw.expovariate(rate)
        dues.append(moment)
    return dues


@contextmanager
def _connected(port: int, count: int) -> Iterator[dict[int, socket.socket]]:
    links: dict[int, socket.socket] = {}
    try:
        for _ in range(count):
            link = _connection(("127.0.0.1", port))
            links[link.fileno()] = link
        yield links
    finally:
        for link in links.values():
            link.close()


def _connection(address: tuple[str, int]) -> socket.socket:
    link = socket.create_connection(address, timeout=_PATIENCE)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def _reconnect(link: socket.socket) -> None:
    """Opens another connection to the same server with the same file descriptor."""
    with _connection(link.getpeername()) as other:
        os.dup2(other.fileno(), link.fileno())


@contextmanager
def _without_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Run:
    """One run. ``dues`` are seconds from its start; None: whenever a connection is free."""

    def __init__(
        self,
        links: dict[int, socket.socket],
        requests: Sequence[bytes],
        dues: list[float] | None,
        outcome: LoadResult,
    ) -> None:
        self._links = links
        self._requests = requests
        self._dues = dues
        self._outcome = outcome
        self._free = list(links)
        self._since: dict[int, float] = {}  # for each busy connection: when its request was due
        self._unfinished: dict[int, bytes] = {}
        self._sent = 0
        self._none_free_until = 0.0

    def run(self, start: float) -> None:
        every = list(self._links)
        while self._sent < len(self._requests) or self._since:
            pause = self._send_due(start)
            # epoll waits in whole milliseconds, longer than an answer takes.
            readable, _, _ = select.select(every, (), (), pause)
            if not readable and pause == _PATIENCE:
                raise LoadFault(f"no answer within {_PATIENCE:.0f} s")
            for number in readable:
                self._receive(number)

    def _send_due(self, start: float) -> float:
        """Sends due requests over free connections; returns the seconds until the next one."""
        now = time.perf_counter()
        while self._free and self._sent < len(self._requests):
            due = start + self._dues[self._sent] if self._dues else now
            if due > now:
                return due - now
            number, request = self._free.pop(), self._requests[self._sent]
            self._since[number] = due
            kept_waiting = due < self._none_free_until
            self._outcome.sent.append(due if kept_waiting else time.perf_counter())
            if self._links[number].send(request) != len(request):
                raise LoadFault("a request did not fit into the socket's buffer")
            self._sent += 1
        return _PATIENCE

    def _receive(self, number: int) -> None:
        chunk = self._links[number].recv(_MAX_ANSWER)
        if number not in self._since:
            raise LoadFault("the server closed an idle connection, or sent data unasked")
        if not chunk:
            raise LoadFault("the server closed a connection without an answer")
        answer = self._unfinished.pop(number, b"") + chunk
        if (status := status_of(answer)) is None:
            self._unfinished[number] = answer
            return
        self._outcome.latencies.append(time.perf_counter() - self._since.pop(number))
        self._outcome.statuses[status] += 1
        if status >= 300:
            self._outcome.refusal = answer
        if _is_last(answer):
            _reconnect(self._links[number])
        if not self._free:
            self._none_free_until = time.perf_counter()
        self._free.append(number)


def _is_last(answer: bytes) -> bool:
    """Whether the server closes the connection after this answer."""
    return b"\r\nconnection: close" in answer.partition(b"\r\n\r\n")[0].lower()


def status_of(answer: bytes) -> int | None:
    """The status of a complete answer, or None while it is incomplete."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return None
    if not head.startswith(b"HTTP/1.1 "):
        raise LoadFault(f"not HTTP: {answer[:40]!r}")
    status, fields = int(head[9:12]), head.lower()
    _, has_length, length = fields.partition(b"\r\ncontent-length:")
    if has_length:
        return status if len(body) >= int(length.partition(b"\r\n")[0]) else None
    if b"\r\ntransfer-encoding: chunked" in fields:
        return status if body.endswith(b"0\r\n\r\n") else None
    return status
