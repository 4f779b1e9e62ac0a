"""One test's parts: a receiver process, relying apps over HTTP, browsers; all closed at its end."""

import contextlib
import uuid
from pathlib import Path
from typing import Any, Self

from backchannel_logout import AppKeys, Event
from tests.interop.browser import Browser
from tests.interop.oidc_provider import OidcProvider
from tests.interop.relying_app import RelyingApp
from tests.interop.visitor import Visitor
from tests.support.receiver import Receiver, config
from tests.support.redis_server import RedisServer


class Stage(contextlib.ExitStack):
    """Ties the parts together around a provider and a Redis that other tests share."""

    def __init__(self, op: OidcProvider, redis: RedisServer, directory: Path) -> None:
        super().__init__()
        self.op = op
        self.redis = redis
        self.receiver: Receiver
        self._directory = directory

    def __enter__(self) -> Self:
        self.callback(self.op.set_clock, 0)
        return super().__enter__()

    def open(
        self,
        *names: str,
        alg: str,
        with_sid: bool,
        accepts: tuple[str, ...] = ("RS256", "ES256", "EdDSA"),
    ) -> list[RelyingApp]:
        """Relying apps, each with a client of its own that the receiver serves.

        The provider signs with ``alg`` and, unless ``with_sid``, names no session in its
        tokens; the receiver takes the algorithms of ``accepts``.
        """
        run = uuid.uuid4().hex[:8]
        apps = [
            self.enter_context(
                RelyingApp(
                    f"{name}-{run}", issuer=self.op.issuer, alg=alg, redis_url=self.redis.url
                )
            )
            for name in names
        ]
        self.receiver = self._start_receiver(apps, accepts)
        for app in apps:
            self.op.register(
                client_id=app.client_id,
                token_endpoint_auth_method="none",
                grant_types=["authorization_code", "refresh_token"],
                redirect_uris=[app.redirect_uri],
                id_token_signed_response_alg=alg,
                backchannel_logout_uri=self.receiver.url + "/backchannel-logout",
                backchannel_logout_session_required=with_sid,
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
        """A person with a browser of their own; nobody has signed in with it yet."""
        return Visitor(self.enter_context(Browser()), login)

    def events(self, app: RelyingApp) -> list[Event]:
        """What is in the app's stream."""
        with self.redis.client() as redis:
            entries: Any = redis.xrange(AppKeys(app.name).events)
        return [Event.from_fields(fields, entry_id) for entry_id, fields in entries]
