"""Stops the service without resetting well-behaved clients, in four steps.

1  For at most ``drain`` seconds everything is served, each response the last one of its connection.
   Ends when traffic ceases, except where a load balancer polls `/readyz`.
2  No new connections; those in the kernel's queue are accepted.
3  Open connections are served until traffic ceases.
4  Idle connections get a FIN, requests in progress their response (uvicorn does this).
"""

import asyncio
import contextlib
import ctypes
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from app.server.connection_limits import Connections

# Traffic has ceased after this long: long for a round trip in a data centre, short for a stop.
QUIET = 0.1

# Step 3 ends by itself, since every response ends its connection; this is for clients that drip.
LAST_SECONDS = 1.0

# Linux, <asm-generic/socket.h>; Python has no name for them.
_SO_ATTACH_FILTER = 26

# Classic BPF on a TCP segment for the listening socket: load the flags (byte 13), mask SYN and ACK,
# and drop the segment if it has SYN alone.
_DROP_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),
        (0x54, 0, 0, 0x12),
        (0x15, 0, 1, 0x02),
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),
    )
)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """An event which SIGTERM and SIGINT set, from the start: an embedded server that is still
    starting is stopped in order, too."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def on_hangup(reload: Callable[[], None]) -> Iterator[None]:
    """Call ``reload`` at each SIGHUP, in place of the end of the process."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        ignore_hangup()


def ignore_hangup() -> None:
    """Until there is a handler, and after it: SIGHUP would end the process without a drain."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def serve_last_requests(
    connections: Sequence[Connections], drain: float, is_watched: bool
) -> None:
    """Step 1, until the traffic of the first listener ceases; all of ``drain`` if watched."""
    for of_one_listener in connections:
        of_one_listener.stop()
    await connections[0].quiet(drain if is_watched else QUIET, max_seconds=drain)


async def stop_accepting(
    listener: socket.socket, servers: Iterable[asyncio.Server], connections: Connections
) -> None:
    """Steps 2 and 3."""
    await take_pending(listener)
    for server in servers:
        server.close()
    if len(connections):
        await connections.quiet(QUIET, max_seconds=LAST_SECONDS)


async def take_pending(listener: socket.socket) -> None:
    """Let the event loop accept the connections in the kernel's queue, and none after.

    Closing the socket resets what is in the queue, and between the last look at the queue and the
    close there is time for one more. So on Linux the kernel stops beginning new connections first:
    a client that connects now tries again after a second, as after a lost packet, and reaches the
    next process on this address, if there is one.
    """
    if begin_no_more(listener):
        await asyncio.sleep(QUIET)  # for handshakes in progress
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    deadline = asyncio.get_running_loop().time() + LAST_SECONDS
    while poll.poll(0) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0)


def begin_no_more(listener: socket.socket) -> bool:
    """Have the kernel drop requests for new connections. Returns whether it does."""
    if sys.platform != "linux":
        return False
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    fprog = struct.pack("@HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)
    except OSError:
        return False
    return True
