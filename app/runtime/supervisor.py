"""`app.runtime.serve.serve` with several workers: the parent's own composition."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from app.admin.gauges import of_publisher
from app.admin.health import HealthOfAll
from app.admin.hosts import KnownHosts
from app.admin.metrics import Metrics
from app.background import background
from app.canary.issuer import with_canary
from app.config.model import Settings
from app.log import new_log
from app.runtime.admin import Wrap
from app.runtime.components import new_app, running_publisher
from app.runtime.optional_listeners import running_apis
from app.runtime.serve import new_canary, running_redis
from app.runtime.worker_pool import Workers, share_of
from app.server.listeners import Server, admin_server, serve_all, stop_on_signal
from app.server.sockets import bound, bound_for_users, tell_addresses
from app.store.unserved import UnservedApps, UnservedWatch, apps_of_settings
from app.telemetry.counters import Counters
from app.telemetry.metrics import LOG_LINES
from app.telemetry.output import LINES
from app.telemetry.shared_counters import UNREAD

log = new_log(__name__)


async def serve(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or SIGINT. Raises `StartFault` or `WorkerFault`."""
    async with contextlib.AsyncExitStack() as stack:
        stop = stack.enter_context(stop_on_signal())
        listeners = stack.enter_context(bound_for(settings.workers, settings))
        admin = stack.enter_context(bound(settings.admin_listen, "admin_listen"))
        account = stack.enter_context(bound_for_users(settings))
        redis_url = await stack.enter_async_context(running_redis(settings, announce))
        own = settings
        settings, signer = with_canary(settings)
        workers = Workers(settings, redis_url, listeners)
        LINES.on_dropped = workers.own_cells.counter(LOG_LINES, UNREAD)
        health = HealthOfAll(workers.health)
        health.stopping = stop.is_set
        metrics = Metrics(workers.cells, lambda: workers.gauges(stop.is_set()))
        with_api, users = await stack.enter_async_context(
            running_apis_of_parent(own, redis_url, workers, health, stop, announce, account)
        )
        # Left last: while the workers end, /readyz says that we are about to.
        routes = [*health.routes, metrics.route]
        operators = KnownHosts(new_app(routes), settings.admin_hosts)
        servers = [admin_server(settings, admin, with_api(operators)), *users]
        ended = asyncio.Event()
        for listener in (admin, *account):
            listener.listen()
        serving = asyncio.create_task(serve_all(servers, ended, drain=0))
        try:
            async with workers.running(stop):
                tell_addresses(listeners[0], admin, announce, account, console=own.has_console)
                canary = new_canary(settings, signer, redis_url, listeners[0], workers.own_cells)
                health.canary = canary.state if canary else None
                async with background([canary.keep_trying] if canary else []):
                    await stop.wait()
                if health.watched():  # as in `serve_all`; the workers know of no `/readyz`
                    await asyncio.sleep(settings.drain)
        finally:
            ended.set()
            await serving
    log.info("service", outcome="stopped")


@contextlib.asynccontextmanager
async def running_apis_of_parent(
    settings: Settings,
    redis_url: str,
    workers: Workers,
    health: HealthOfAll,
    stop: asyncio.Event,
    announce: Callable[[str], None],
    account: Sequence[socket.socket],
) -> AsyncIterator[tuple[Wrap, list[Server]]]:
    """`/api` and the users' listener, where they are to be. The parent has for them what a worker
    has: connections to Redis, a journal file, its numbers. Raises `StartFault`."""
    if not settings.has_console and not account:
        yield (lambda app: app), []
        return
    share = share_of(settings, settings.workers)
    tally = Counters(settings, workers.own_cells)
    async with running_publisher(share, redis_url, tally) as publisher:
        health.publisher = publisher
        workers.own_gauges = lambda: of_publisher(share, publisher)
        watch = UnservedWatch(UnservedApps(publisher.reads, apps_of_settings(settings)))
        async with background([watch.keep_looking]), running_apis(
            settings, publisher, account, cells=workers.cells, health=health.now,
            stopping=stop.is_set, announce=announce, unserved=lambda: watch.found,
        ) as apis:  # fmt: skip
            yield apis


@contextlib.contextmanager
def bound_for(workers: int, settings: Settings) -> Iterator[list[socket.socket]]:
    """A socket for each worker, on one address. Raises `StartFault`.

    That of the first is bound alone before: sockets that share an address do so also with those
    of another receiver, which would go unnoticed.
    """
    with bound(settings.listen, "listen") as probe:
        address = (settings.listen[0], probe.getsockname()[1])
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(bound(address, "listen", shared=True)) for _ in range(workers)]
