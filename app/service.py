"""The composition root: builds the parts, opens the listeners, stops in order."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.account_service import running_account
from app.admin.gauges import Gauges
from app.admin.health import Health
from app.admin.metrics import Metrics, of_service
from app.canary.canary import Canary
from app.canary.counting import counted_in
from app.canary.issuer import CanaryIssuer, Signer, with_canary
from app.embedded import EmbeddedServer
from app.inbound.backchannel import BackchannelLogout, Provider
from app.inbound.direct import HotRoute
from app.inbound.load import Places
from app.inbound.parking import Parking
from app.listeners import account_server, admin_server, public_server, serve_all
from app.log import new_log
from app.operating import running_api
from app.publish.publisher import JournalUnusable, Publisher
from app.publish.redis_link import connect
from app.settings import Settings
from app.tasks import background
from app.telemetry.cells import Cells
from app.telemetry.exposition import Gauge
from app.telemetry.readings import Readings
from app.telemetry.tally import Tally
from app.telemetry.telling import Telling
from app.telemetry.traces import TracesFault, Tracing, tracing
from app.tokens.fetch import new_client
from app.tokens.fixed_keys import FixedKeys
from app.tokens.provider_keys import ProviderKeys

log = new_log(__name__)

PATH = "/backchannel-logout"


class StartFault(Exception):
    """The service can not start; the message says why, for the person at the terminal."""


async def serve(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or SIGINT. Raises `StartFault` when it can not begin."""
    async with contextlib.AsyncExitStack() as stack:
        # What is entered later is left earlier: listeners first, then Redis, then its server.
        stop = stack.enter_context(stop_on_signal())
        public = stack.enter_context(bound(settings.listen, "listen"))
        admin = stack.enter_context(bound(settings.admin_listen, "admin_listen"))
        account = stack.enter_context(bound_for_users(settings))
        redis_url = await stack.enter_async_context(running_redis(settings, announce))
        own = settings
        settings, signer = with_canary(settings)
        cells = Cells(settings)
        parts = await stack.enter_async_context(running_parts(settings, redis_url, cells))
        for listener in (public, admin, *account):
            listener.listen()  # who comes from here on waits in line, and is not turned away
        tell_addresses(public, admin, announce, account)
        parts.health.stopping = stop.is_set
        with_api = await stack.enter_async_context(
            running_api(
                own,
                parts.publisher,
                health=parts.health.now,
                stopping=stop.is_set,
                announce=announce,
            )
        )
        servers = [
            public_server(settings, public, parts.public_app, parts.hot, parts.tally.made_room),
            admin_server(settings, admin, with_api(parts.admin_app)),
        ]
        for listener in account:
            app = await stack.enter_async_context(
                running_account(own, parts.publisher, stopping=stop.is_set)
            )
            servers.append(account_server(settings, listener, app))
        parts.gauges.connections = servers[0].connections
        canary = new_canary(settings, signer, redis_url, public, cells)
        parts.health.canary = canary.state if canary else None
        async with background([canary.keep_trying] if canary else []):
            await serve_all(servers, stop, drain=settings.drain)
    log.info("service", outcome="stopped")


@contextlib.asynccontextmanager
async def running_redis(settings: Settings, announce: Callable[[str], None]) -> AsyncIterator[str]:
    """The URL of Redis, with the embedded server running where the settings say so."""
    if not settings.embedded:
        yield settings.redis_url.get_secret_value()
        return
    server = EmbeddedServer(settings.data_dir, settings.embedded_port)
    async with server.running() as redis_url:
        announce(f"embedded Redis for apps:  {redis_url}")
        yield redis_url


@contextlib.asynccontextmanager
async def running_parts(settings: Settings, redis_url: str, cells: Cells) -> AsyncIterator["Parts"]:
    """What one process serves with, running; it counts in ``cells``. Raises `StartFault`."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            traces = stack.enter_context(tracing(settings))
        except TracesFault as fault:
            raise StartFault(str(fault)) from None
        client = await stack.enter_async_context(new_client())
        tally = Tally(settings, cells)
        publisher = await stack.enter_async_context(running_publisher(settings, redis_url, tally))
        # Ends before the publisher, which closes the way to Redis.
        telling = Telling(settings, publisher.link.client, tally)
        await stack.enter_async_context(telling.running())
        parts = Parts(settings, publisher, client, cells, tally, telling, traces)
        await stack.enter_async_context(parts.running())
        yield parts


@contextlib.asynccontextmanager
async def running_publisher(
    settings: Settings, redis_url: str, tally: Tally | None = None
) -> AsyncIterator[Publisher]:
    """The way to Redis, running; what it writes is counted by ``tally``. Raises `StartFault`."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            publisher = Publisher(
                settings,
                connect(redis_url),
                on_written=tally.written if tally else lambda _, __: None,
                on_lost=tally.recovered if tally else lambda _: None,
            )
            await stack.enter_async_context(publisher.running())
        except JournalUnusable as fault:
            raise StartFault(
                f"journal: {fault}; name a file in a directory that can be written, or say off"
            ) from None
        yield publisher


def new_canary(
    settings: Settings, signer: Signer | None, redis_url: str, public: socket.socket, cells: Cells
) -> Canary | None:
    """The canary, for where there is to be one; its tries are counted in ``cells``."""
    if settings.canary is None or signer is None:
        return None
    shown = _shown(public)
    for everywhere, here in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):
        if shown.startswith(everywhere):
            shown = here + shown.removeprefix(everywhere)
    return Canary(
        settings.canary, signer, redis_url=redis_url, url=f"http://{shown}{PATH}",
        on_try=counted_in(cells),
    )  # fmt: skip


def tell_addresses(
    public: socket.socket,
    admin: socket.socket,
    announce: Callable[[str], None],
    account: Sequence[socket.socket] = (),
) -> None:
    """For the person at the terminal."""
    announce(f"back-channel logout:      http://{_shown(public)}{PATH}")
    announce(f"health and operations:    http://{_shown(admin)}/readyz")
    for listener in account:
        announce(f"users' own sessions:      http://{_shown(listener)}/account")


class Parts:
    """Everything between the listeners and Redis."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        client: httpx.AsyncClient,
        cells: Cells,
        tally: Tally,
        telling: Telling,
        traces: Tracing | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.tally = tally
        self.keys = {
            issuer.issuer: FixedKeys(issuer, issuer.key_set)
            if isinstance(issuer, CanaryIssuer)
            else ProviderKeys(issuer, client, clock=clock, on_fetched=tally.keys_fetched)
            for issuer in settings.signing_issuers
        }
        providers = {
            name: Provider(issuer, self.keys[issuer.issuer])
            for issuer in settings.signing_issuers
            for name in issuer.names
        }
        self.parking = Parking(
            [providers[name] for name in self.keys],
            publisher.writer,
            most_tokens=settings.parking_max_tokens,
            most_bytes=settings.parking_max_bytes,
            teller=telling.teller,
            clock=clock,
        )
        places = Places(settings.max_in_flight)
        endpoint = BackchannelLogout(
            providers,
            publisher.writer,
            places=places,
            park=self.parking.park,
            teller=telling.teller,
            tracing=traces,
            trusts_request_id=settings.trust_request_id,
            clock=clock,
        )
        self.public_app = new_app([Route(PATH, endpoint.answer, methods=["POST"])])
        hot = HotRoute(PATH.encode(), endpoint.answer_whole, settings.trust_request_id)
        # A span lasts for as long as a task: traced requests have one.
        self.hot = hot if traces is None else None
        self.publisher = publisher
        self.health = Health(self.keys, publisher, self.parking)
        self.readings = Readings(settings, publisher.link, tally, clock=clock)
        self.gauges = Gauges(
            settings, keys=self.keys, publisher=publisher, places=places, parking=self.parking,
            readings=self.readings, tally=tally, clock=clock,
        )  # fmt: skip
        self.admin_app = new_app([*self.health.routes, Metrics([cells], self._gauges).route])

    async def _gauges(self) -> list[list[Gauge]]:
        ready = self.health.body()["ready"]
        return [self.gauges.look(), of_service(ready=ready, configured=1, answering=1)]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The background tasks: each issuer's keys, what waits for them, what Redis knows."""
        try:
            async with (
                background(
                    [
                        *(keys.keep_fresh for keys in self.keys.values()),
                        self.readings.keep_reading,
                    ]
                ),
                self.parking.running(),
            ):
                yield
        finally:
            for keys in self.keys.values():
                await keys.aclose()


def new_app(routes: list[Route]) -> Starlette:
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
    # Providers count a redirect as a failure; a path with a slash too many is simply wrong.
    app.router.redirect_slashes = False
    return app


async def _http_error(_: Request, error: Exception) -> Response:
    """404 and 405 of the router, in the form of the other answers."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid_request")
    return JSONResponse(
        {"error": code}, status_code=status, headers=getattr(error, "headers", None)
    )


# -- listeners -----------------------------------------------------------------------------


@contextlib.contextmanager
def bound(
    address: tuple[str, int], setting: str, *, shared: bool = False
) -> Iterator[socket.socket]:
    """A listening address, taken before anything else starts. Raises `StartFault`.

    ``shared``: with other sockets that are, among which the kernel spreads the connections.
    """
    host, port = address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, name = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartFault(f"{setting}: {host}:{port} can not be used ({error.strerror})") from None
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(name)
        except OSError as error:
            raise StartFault(
                f"{setting}: {host}:{port} can not be used ({error.strerror})"
            ) from None
        yield listener


@contextlib.contextmanager
def bound_for_users(settings: Settings) -> Iterator[list[socket.socket]]:
    """The users' listening address, where there is to be one. Raises `StartFault`."""
    if settings.account_listen is None:
        yield []
        return
    with bound(settings.account_listen, "account_listen") as listener:
        yield [listener]


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def stop_on_signal() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set, from the start on: also an embedded server that is
    only just starting is then stopped in order."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
