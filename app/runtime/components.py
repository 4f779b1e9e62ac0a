"""Builds and runs everything between the listeners and Redis."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.admin.gauges import Gauges
from app.admin.health import Health
from app.admin.metrics import Metrics
from app.backchannel.admission import FairSemaphore
from app.backchannel.batch import BatchProcessor
from app.backchannel.decryption_queue import DecryptionQueue
from app.backchannel.endpoint import LogoutEndpoint
from app.backchannel.parking import Parking
from app.backchannel.pipeline import Provider
from app.backchannel.waiting import WaitingRequests
from app.background import background
from app.canary.issuer import CanaryIssuer
from app.config.model import Settings
from app.publish.publisher import JournalUnusable, Publisher
from app.server.fast_path import FastRoute
from app.server.paths import LOGOUT_PATH
from app.server.sockets import StartFault
from app.store.topology import MAX_OTHER_CONNECTIONS, connect
from app.store.unserved import UnservedApps, UnservedWatch, apps_of_settings
from app.telemetry.counters import Counters
from app.telemetry.output import LINES
from app.telemetry.readings import Readings
from app.telemetry.registry import Registry
from app.telemetry.reporting import Reporting
from app.telemetry.traces import TracesFault, Tracing, tracing
from app.tokens.fetch import new_client
from app.tokens.fixed_keys import FixedKeys
from app.tokens.provider_keys import ProviderKeys


@contextlib.asynccontextmanager
async def running_parts(
    settings: Settings, redis_url: str, registry: Registry
) -> AsyncIterator["Components"]:
    """What one process serves with, running; it counts in ``registry``. Raises `StartFault`."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            traces = stack.enter_context(tracing(settings))
        except TracesFault as fault:
            raise StartFault(str(fault)) from None
        client = await stack.enter_async_context(new_client())
        tally = Counters(settings, registry)
        LINES.on_dropped = tally.log_unread
        publisher = await stack.enter_async_context(running_publisher(settings, redis_url, tally))
        # Ends before the publisher, which closes the way to Redis.
        telling = Reporting(settings, publisher.reads.client, tally)
        await stack.enter_async_context(telling.running())
        parts = Components(settings, publisher, client, registry, tally, telling, traces)
        await stack.enter_async_context(parts.running())
        yield parts


@contextlib.asynccontextmanager
async def running_publisher(
    settings: Settings, redis_url: str, tally: Counters
) -> AsyncIterator[Publisher]:
    """The way to Redis, running; ``tally`` counts what it writes. Raises `StartFault`."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            publisher = Publisher(
                settings,
                connect(redis_url),
                reads=connect(redis_url, max_connections=MAX_OTHER_CONNECTIONS),
                on_written=tally.written,
                on_lost=tally.recovered,
            )
            await stack.enter_async_context(publisher.running())
        except JournalUnusable as fault:
            raise StartFault(
                f"journal: {fault}; name a file in a directory that can be written, or say off"
            ) from None
        yield publisher


class Components:
    """Everything between the listeners and Redis."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        client: httpx.AsyncClient,
        registry: Registry,
        tally: Counters,
        telling: Reporting,
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
            max_tokens=settings.parking_max_tokens,
            max_bytes=settings.parking_max_bytes,
            reporter=telling.teller,
            clock=clock,
        )
        places = FairSemaphore(settings.max_in_flight)
        self.waiting = WaitingRequests(
            publisher.writer,
            places=places,
            park=self.parking.park,
            decryption=DecryptionQueue.of(
                {name: provider.issuer for name, provider in providers.items()}, places
            ),
        )
        endpoint = LogoutEndpoint(
            providers,
            self.waiting,
            reporter=telling.teller,
            tracing=traces,
            trusts_request_id=settings.trust_request_id,
            clock=clock,
        )
        self.public_app = new_app([Route(LOGOUT_PATH, endpoint.answer, methods=["POST"])])
        batch = BatchProcessor(
            providers, publisher.writer, places=places, waiting=self.waiting,
            reporter=telling.teller, clock=clock,
        )  # fmt: skip
        fast_route = FastRoute(LOGOUT_PATH.encode(), batch.submit, settings.trust_request_id)
        # A span lasts for as long as a task: traced requests have one.
        self.hot = fast_route if traces is None else None
        self.publisher = publisher
        self.health = Health(self.keys, publisher, self.parking)
        self.readings = Readings(settings, publisher.reads, tally, clock=clock)
        self.unserved = UnservedWatch(
            UnservedApps(publisher.reads, apps_of_settings(settings)), self.readings.apps
        )
        self.gauges = Gauges(
            settings, keys=self.keys, publisher=publisher, places=places, parking=self.parking,
            readings=self.readings, unserved=self.unserved, tally=tally,
            ready=lambda: self.health.body()["ready"], clock=clock,
        )  # fmt: skip
        self.admin_app = new_app([*self.health.routes, Metrics(registry, self.gauges.read).route])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The background tasks: each issuer's keys, what waits for them, what Redis knows."""
        try:
            async with (
                background(
                    [
                        *(keys.keep_fresh for keys in self.keys.values()),
                        self.readings.keep_reading,
                        self.unserved.keep_looking,
                    ]
                ),
                self.parking.running(),
            ):
                yield
        finally:
            await self.waiting.aclose()
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
