"""One test's setup: a receiver process, relying apps over HTTP, and browsers."""

import contextlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from backchannel_logout import AppKeys, Event
from tests.interop.browser import Browser
from tests.interop.relying_app import RelyingApp
from tests.interop.visitor import SignIn, Visitor
from tests.support.receiver import Receiver, config
from tests.support.servers.redis_server import RedisServer


class IdentityProvider(SignIn, Protocol):
    """One issuer of a real provider."""

    issuer: str
    ask: Mapping[str, str]
    """Authorization parameters for a sign-in."""

    @property
    def register(self) -> Any:
        """Register a public client with ``client_id``, ``redirect_uri``, ``alg`` (of its ID
        tokens), ``backchannel_logout_uri``, and options of the provider's own."""


Op = TypeVar("Op", bound=IdentityProvider)


class InteropSetup(contextlib.ExitStack, Generic[Op]):
    """Connects these parts with a provider and a Redis that tests share; closes them at the end."""

    def __init__(self, op: Op, redis: RedisServer, directory: Path) -> None:
        super().__init__()
        self.op = op
        self.redis = redis
        self.receiver: Receiver
        self._directory = directory

    def open(
        self,
        *names: str,
        alg: str = "RS256",
        accepts: tuple[str, ...] = ("RS256", "ES256", "EdDSA"),
        **registration: Any,
    ) -> list[RelyingApp]:
        """Start relying apps, each with its own client that the receiver serves.

        The provider signs with ``alg``; the receiver accepts the algorithms of ``accepts``.
        ``registration`` are options of the provider's ``register``.
        """
        run = uuid.uuid4().hex[:8]
        apps = [
            self.enter_context(
                RelyingApp(
                    f"{name}-{run}",
                    issuer=self.op.issuer,
                    alg=alg,
                    ask=self.op.ask,
                    redis_url=self.redis.url,
                )
            )
            for name in names
        ]
        self.receiver = self._start_receiver(apps, accepts)
        for app in apps:
            self.op.register(
                client_id=app.client_id,
                redirect_uri=app.redirect_uri,
                alg=alg,
                backchannel_logout_uri=self.receiver.url + "/backchannel-logout",
                **registration,
            )
        return apps

    def _start_receiver(self, apps: list[RelyingApp], accepts: tuple[str, ...]) -> Receiver:
        clients = ", ".join(
            f'{{client_id = "{app.client_id}", app = "{app.name}"}}' for app in apps
        )
        issuer = f'issuer = "{self.op.issuer}"\nalgorithms = {list(accepts)}'
        receiver = Receiver(self._directory, config(self.redis.url, issuer, clients=f"[{clients}]"))
        self.callback(receiver.stop)
        return receiver.start()

    def visitor(self, login: str) -> Visitor:
        """A person with a new browser, not signed in."""
        return Visitor(self.op, self.enter_context(Browser()), login)

    def events(self, app: RelyingApp) -> list[Event]:
        """The events in the app's stream."""
        with self.redis.client() as redis:
            entries: Any = redis.xrange(AppKeys(app.name).events)
        return [Event.from_fields(fields, entry_id) for entry_id, fields in entries]
