"""Builds and runs what handles logout tokens: everything between the public listener and Redis."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.backchannel.admission import FairSemaphore
from app.backchannel.batch import BatchProcessor
from app.backchannel.decryption_queue import DecryptionQueue
from app.backchannel.endpoint import LogoutEndpoint
from app.backchannel.parking import Parking
from app.backchannel.pipeline import Provider
from app.backchannel.waiting import WaitingRequests
from app.background import background
from app.canary.issuer import CanaryIssuer
from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.publish.publisher import JournalUnusable, Publisher
from app.server.fast_path import FastRoute
from app.server.paths import LOGOUT_PATH
from app.server.sockets import StartFault
from app.store.topology import MAX_OTHER_CONNECTIONS, connect
from app.store.unserved import UnservedApps, UnservedWatch, apps_of_settings
from app.telemetry.metrics.counters import Counters
from app.telemetry.metrics.readings import Readings
from app.telemetry.reporting import Reporting
from app.telemetry.traces import TracesFault, Tracing, tracing
from app.tokens.asked_fetches import AskedFetches
from app.tokens.fetch import new_client
from app.tokens.first_fetches import first_fetches_attempted, report_first_fetches
from app.tokens.fixed_keys import FixedKeys
from app.tokens.provider_keys import ProviderKeys
from app.tokens.served_keys import ServedKeys


@contextlib.asynccontextmanager
async def running_components(
    settings: Settings, redis_url: str, counters: Counters
) -> AsyncIterator["Components"]:
    """Build the components and run their background tasks. Raises `StartFault`."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            traces = stack.enter_context(tracing(settings))
        except TracesFault as fault:
            raise StartFault(str(fault)) from None
        tls = httpx.create_ssl_context()
        publisher = await stack.enter_async_context(
            running_publisher(settings, redis_url, counters)
        )
        # Entered after the publisher, so it ends before the connections to Redis are closed.
        reporting = Reporting(settings, publisher.reads.client, counters)
        await stack.enter_async_context(reporting.running())
        components = Components(
            settings, publisher, lambda: new_client(tls, keep_alive=False), counters, reporting,
            traces,
        )  # fmt: skip
        await stack.enter_async_context(components.running())
        yield components


@contextlib.asynccontextmanager
async def running_publisher(
    settings: Settings, redis_url: str, counters: Counters
) -> AsyncIterator[Publisher]:
    """Connect to Redis and open the journal; ``counters`` count the writes. Raises `StartFault`."""
    async with contextlib.AsyncExitStack() as stack:
        try:
            publisher = Publisher(
                settings,
                connect(redis_url),
                reads=connect(redis_url, max_connections=MAX_OTHER_CONNECTIONS),
                on_written=counters.written,
                on_lost=counters.recovered,
                on_emptied=counters.emptied,
            )
            await stack.enter_async_context(publisher.running())
        except JournalUnusable as fault:
            raise StartFault(
                f"journal: {fault}; name a file in a writable directory, or set it to off"
            ) from None
        yield publisher


class Components:
    """The components of the token path. `public_app` and `fast_route` serve the public listener;
    ``fast_route`` is None while requests are traced, because a span lasts as long as its task.

    ``clients`` makes an HTTP client for each issuer: in a shared pool, each request costs a look at
    all others, and hanging providers could take every connection."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        clients: Callable[[], httpx.AsyncClient],
        counters: Counters,
        reporting: Reporting,
        traces: Tracing | None = None,
    ) -> None:
        self.publisher = publisher
        self._settings = settings
        self._counters = counters
        self._clients = clients
        self._served = ServedKeys(settings.signing_issuers, self._new_keys)
        self.keys = self._served.by_issuer
        """Each issuer's keys by its name; always the same mapping."""
        providers = self._providers = _providers(settings, self.keys)
        self.parking = Parking(
            {*providers.values()},
            publisher.writer,
            max_tokens=settings.parking_max_tokens,
            max_bytes=settings.parking_max_bytes,
            reporter=reporting.reporter,
        )
        self.admission = FairSemaphore(settings.max_in_flight)
        self.waiting = WaitingRequests(
            publisher.writer,
            places=self.admission,
            park=self.parking.park,
            decryption=self._decryption(providers),
        )
        endpoint = LogoutEndpoint(
            providers,
            self.waiting,
            reporter=reporting.reporter,
            tracing=traces,
            trusts_request_id=settings.trust_request_id,
        )
        self.public_app = new_app([Route(LOGOUT_PATH, endpoint.answer, methods=["POST"])])
        self.fast_route: FastRoute | None = None
        if traces is None:
            batch = BatchProcessor(
                providers, publisher.writer, places=self.admission, waiting=self.waiting,
                reporter=reporting.reporter,
            )  # fmt: skip
            self.fast_route = FastRoute(
                LOGOUT_PATH.encode(), batch.submit, settings.trust_request_id
            )
        self.asked_fetches = AskedFetches(self.keys, publisher.reads.client)
        self.readings = Readings(settings, publisher.reads, counters)
        self._unserved_apps = UnservedApps(publisher.reads, apps_of_settings(settings))
        self.unserved = UnservedWatch(
            self._unserved_apps,
            self.readings.apps,
            measures=lambda: self.readings.lease.held,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the background tasks: fetches of keys, parked tokens, readings from Redis."""
        try:
            async with (
                self._served.running(),
                background(
                    [
                        self.asked_fetches.keep_reading,
                        partial(report_first_fetches, self.keys.values()),
                        self._keep_reading,
                        self.unserved.keep_looking,
                    ]
                ),
                self.parking.running(),
            ):
                yield
        finally:
            await self.readings.lease.release()
            await self.waiting.aclose()

    async def serve(self, settings: Settings) -> None:
        """Take these settings from now on: other issuers, clients and apps.

        Requests in progress end with the settings that they began with. Parked tokens, and the keys
        of issuers that fetch from the same place, stay.
        """
        settings = _with_same_issuers(settings, self._settings)
        self._counters.serve(settings)
        prepared = await self._served.prepared(settings.signing_issuers)
        # From here on without a pause: no token sees one half of it.
        self._settings = settings
        for issuer in settings.signing_issuers:
            prepared[issuer.issuer].serve(issuer)
        self._served.serve(prepared)
        providers = _providers(settings, self.keys)
        self._providers.clear()
        self._providers.update(providers)
        self.parking.serve({*providers.values()})
        self.waiting.serve(self._decryption(providers))
        self.publisher.serve(settings)
        self.readings.serve(settings)
        self._unserved_apps.serve(apps_of_settings(settings))

    def _new_keys(self, issuer: IssuerSettings) -> ProviderKeys:
        if isinstance(issuer, CanaryIssuer):
            return FixedKeys(issuer, issuer.key_set)
        return ProviderKeys(
            issuer, self._clients(), on_fetched=self._counters.keys_fetched, logs_fetches=False
        )

    def _decryption(self, providers: Mapping[str, Provider]) -> DecryptionQueue | None:
        issuers = {name: provider.issuer for name, provider in providers.items()}
        return DecryptionQueue.of(issuers, self.admission)

    async def _keep_reading(self) -> None:
        """Readings for the metrics, once the first keys are there: tokens wait for those."""
        await first_fetches_attempted(self.keys.values())
        await self.readings.keep_reading()


def _providers(settings: Settings, keys: Mapping[str, ProviderKeys]) -> dict[str, Provider]:
    """Each issuer with its keys, by every name of it."""
    providers: dict[str, Provider] = {}
    for issuer in settings.signing_issuers:
        provider = Provider(issuer, keys[issuer.issuer])
        providers |= dict.fromkeys(issuer.names, provider)
    return providers


def _with_same_issuers(settings: Settings, before: Settings) -> Settings:
    """The settings with the objects of ``before`` for each issuer that did not change: caches know
    issuers by identity."""
    old = {issuer.issuer: issuer for issuer in before.issuers}

    def same(issuer: IssuerSettings) -> IssuerSettings:
        known = old.get(issuer.issuer)
        return known if known is not None and known.equals(issuer) else issuer

    return settings.model_copy(update={"issuers": tuple(map(same, settings.issuers))})


def new_app(routes: list[Route]) -> Starlette:
    """An application whose 404 and 405 are JSON, like its other answers."""
    app = Starlette(routes=routes, exception_handlers={HTTPException: _http_error})
    # Providers count a redirect as a failure, so an extra slash is a 404.
    app.router.redirect_slashes = False
    return app


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid_request")
    return JSONResponse(
        {"error": code}, status_code=status, headers=getattr(error, "headers", None)
    )
