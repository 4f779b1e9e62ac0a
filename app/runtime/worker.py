"""One of several workers: ``python -m app.runtime.worker``, for `app.runtime.worker_pool` alone."""

import asyncio
import contextlib
import gc
import socket
import sys

import uvloop

import app.runtime.import_diet  # noqa: F401  before everything else of ours
from app.log import new_log
from app.runtime.components import Components, running_parts
from app.runtime.ipc import Channel
from app.server.listeners import begin_again, public_server, serve_all, stop_on_signal
from app.server.sockets import StartFault
from app.telemetry.log import set_up_log
from app.telemetry.output import LINES
from app.telemetry.shared_counters import Cells

log = new_log(__name__)

gc.enable()  # see `app.runtime.import_diet`


async def work(channel_end: socket.socket, listener: socket.socket, memory: int) -> None:
    """Serve until SIGTERM or SIGINT, or until the parent is gone. Raises `StartFault`.

    ``memory`` is where to count (`app.telemetry.shared_counters`).
    """
    channel = await Channel.over(channel_end)
    async with contextlib.AsyncExitStack() as stack:
        stop = stack.enter_context(stop_on_signal())
        assignment = await channel.assignment()
        settings = assignment.settings
        set_up_log(settings)
        parts = await stack.enter_async_context(
            running_parts(settings, assignment.redis_url, Cells(settings, memory))
        )
        parts.health.stopping = stop.is_set
        begin_again(listener)
        listener.listen()
        channel.say_serving()
        telling = asyncio.create_task(_tell(channel, parts, stop))
        server = public_server(
            settings, listener, parts.public_app, parts.hot, parts.tally.made_room
        )
        parts.gauges.connections = server.connections
        await serve_all([server], stop, drain=settings.drain)
        telling.cancel()
    log.info("worker", outcome="stopped", index=assignment.index)


async def _tell(channel: Channel, parts: Components, stop: asyncio.Event) -> None:
    """Answer the parent's questions; when it is gone nobody else stops us."""
    while await channel.question():
        channel.answer({"health": parts.health.body(), "gauges": parts.gauges.look()})
    if not stop.is_set():
        log.error("worker", outcome="orphan", action="stop")
        stop.set()


def main() -> int:
    set_up_log()
    LINES.start()
    channel, listener = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    try:
        uvloop.run(work(channel, listener, int(sys.argv[3])))
    except StartFault as fault:
        print(f"can not start: {fault}", file=sys.stderr)
        return 1
    except EOFError:
        return 1  # the parent has ended before it said what to do
    return 0


if __name__ == "__main__":
    sys.exit(main())
