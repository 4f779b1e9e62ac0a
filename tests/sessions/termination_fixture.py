"""Terminations with a real Redis and a server that implements a provider's API."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from app.config.load import load
from app.history.app_reader import AppReader
from app.publish.publisher import Publisher
from app.sessions.provider_session import ProviderSession
from app.sessions.providers.factory import session_provider
from app.sessions.session_provider import SessionProvider
from app.sessions.termination.termination import Phase, Termination
from app.sessions.termination.terminations import Terminations
from app.store.topology import connect
from app.tokens.fetch import new_client
from backchannel_logout import AppKeys, Event
from tests.support.providers import auth0_api, keycloak_api
from tests.support.providers.auth0_api import Auth0Api
from tests.support.providers.keycloak_api import KeycloakApi
from tests.support.providers.kratos_api import KratosApi
from tests.support.revocations import new_app, revocation
from tests.support.servers.redis_server import RedisServer

Api = Auth0Api | KratosApi | KeycloakApi

ALICE = "auth0|alice"
ALICE_OF_KRATOS = "aaaaaaaa-0000-4000-8000-000000000001"


class TerminationSetup:
    """An issuer whose sessions belong to two apps, ``shop`` and ``news``."""

    def __init__(self, api: Api, server: RedisServer, tmp_path: Path) -> None:
        self.api: Any = api
        self.issuer = f"https://op-{uuid.uuid4().hex[:8]}.example/"
        self.shop, self.news = new_app(), new_app()
        self.path = tmp_path / f"{self.shop}.toml"
        self.path.write_text(
            f'''
redis_url = "{server.url}"
journal = "off"
[[issuers]]
issuer = "{self.issuer}"
clients = [{{client_id = "shop-web", app = "{self.shop}"}},
           {{client_id = "news-web", app = "{self.news}"}}]
[issuers.sessions]
{self._table(api)}
'''
        )
        self.settings = load(self.path, {})
        self.redis: Any = server.client()
        self.publisher: Publisher
        self.provider: SessionProvider
        self.terminations: Terminations

    @staticmethod
    def _table(api: Api) -> str:
        if isinstance(api, KratosApi):
            return f'kind = "kratos"\nadmin_url = "{api.origin}"'
        if isinstance(api, KeycloakApi):
            return (
                f'kind = "keycloak"\napi_url = "{api.origin}"\nrealm = "{keycloak_api.REALM}"\n'
                f'client_id = "{keycloak_api.CLIENT_ID}"\nsecret = "{keycloak_api.CLIENT_SECRET}"'
            )
        return (
            f'kind = "auth0"\napi_url = "{api.origin}"\nclient_id = "{auth0_api.CLIENT_ID}"\n'
            f'secret = "{auth0_api.CLIENT_SECRET}"'
        )

    def new_terminations(self, **options: Any) -> Terminations:
        """Terminations as another process has them."""
        timing = {"confirm_within": 0.3, "give_up": 20.0} | options
        return Terminations(
            AppReader(self.publisher.topology), self.publisher.writer,
            {self.issuer: self.provider}, {self.issuer: self.settings.issuers[0]},
            process=uuid.uuid4().hex, **timing,
        )  # fmt: skip

    async def begin(self, session_id: str, **options: Any) -> Termination:
        known_at = time.time()
        session = await self.provider.read(session_id)
        assert session is not None
        return await self.terminations.begin(self.provider, session, known_at=known_at, **options)

    async def wait_until_over(
        self, termination: Termination, phase: Phase = Phase.CONFIRMED
    ) -> Termination:
        """Wait until it is over with the expected outcome."""
        found = await self.until(termination, lambda record: record.outcome is not None)
        assert found.outcome is phase, found
        return found

    async def until(self, termination: Termination, condition: Any) -> Termination:
        deadline = time.monotonic() + 60
        while True:
            found = await self.terminations.find(self.issuer, termination.session)
            assert found is not None
            if condition(found):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.02)

    async def wait_until_user_over(
        self, user: str, phase: Phase = Phase.CONFIRMED, at: str = "outcome"
    ) -> Termination:
        """The same for all sessions of the user; or wait until the field ``at`` is set."""
        deadline = time.monotonic() + 60
        while True:
            found = await self.terminations.records.newest_of(self.issuer, user)
            assert found is not None
            if getattr(found, at) is not None:
                break
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.02)
        if at == "outcome":
            assert found.outcome is phase, found
        return found

    async def send_token(self, app: str, session_id: str, **changes: Any) -> None:
        """Write the revocation of a logout token."""
        members = {
            "issuer_names": (self.issuer,), "sid": session_id, "sub": ALICE, "once": None,
            "since": time.time(),
        } | changes  # fmt: skip
        until = asyncio.get_running_loop().time() + 5
        await self.publisher.writer.write([revocation(app, **members)], until=until)

    def marker(self, app: str, session_id: str) -> str | None:
        found: str | None = self.redis.get(AppKeys(app).sid(self.issuer, session_id))
        return found

    def events(self, app: str) -> list[Event]:
        entries = self.redis.xrange(AppKeys(app).events)
        return [Event.from_fields(fields, entry_id) for entry_id, fields in entries]


@contextlib.asynccontextmanager
async def running(setup: TerminationSetup, **options: Any) -> AsyncIterator[TerminationSetup]:
    """The setup, with terminations that are followed."""
    url = setup.settings.redis_url.get_secret_value()
    setup.publisher = Publisher(setup.settings, connect(url))
    async with setup.publisher.running(), new_client() as client:
        provider = session_provider(setup.settings.issuers[0], client)
        assert provider is not None
        setup.provider = provider
        setup.terminations = setup.new_terminations(**options)
        async with setup.terminations.running():
            yield setup
    setup.redis.close()


def unlisted_session(setup: TerminationSetup, session_id: str) -> ProviderSession:
    """A session that the provider does not list."""
    return ProviderSession(id=session_id, issuer=setup.issuer, user_id=ALICE)
