"""Authenticates requests to the API and the console.

The order of the checks makes each answer reveal as little as possible:

    host       the request must be for one of our names: a web page whose name resolves to this
               listener (DNS rebinding) sends its own name
    origin     a browser names the page that sent the request; it must be one of ours
    throttle   after too many wrong tokens a peer waits, even with the right one
    token      compared in constant time

A person who has signed in to the console is authenticated by the session instead of the token.
"""

import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.admin.auth_throttle import AuthThrottle
from app.audit import API_NAME
from app.log import new_log
from app.web.credentials import bearer_token, token_digest
from app.web.errors import ApiError
from app.web.operator import Operator, peer_address

log = new_log(__name__)

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

# As many bits as an AES-256 key: guessing is hopeless at any rate.
_TOKEN_BYTES = 32

_BEARER = {"WWW-Authenticate": 'Bearer realm="backchannel-logout admin"'}


def new_token() -> str:
    """A token for ``admin_token = "generate"``."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


class Access:
    """``hosts`` are names besides loopback and the address that the client connected to."""

    def __init__(
        self,
        token: str | None,
        hosts: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = None if token is None else token_digest(token)
        self._hosts = LOOPBACK_HOSTS | {host.lower() for host in hosts}
        self._throttle = AuthThrottle(clock)

    def authenticate(self, scope: Scope) -> Operator:
        """The operator who sent this request. Raises `ApiError`."""
        self.check_host_and_origin(scope)
        if (signed_in := scope.get("signed_in")) is not None:
            operator: Operator = signed_in
            return operator
        token = bearer_token(Headers(scope=scope))
        if token is None:
            self._check_throttle(peer_address(scope))
            # Nothing was guessed, so nothing is counted.
            raise _unauthorized("send the admin token: Authorization: Bearer <token>")
        return self.check_token(scope, token, API_NAME)

    def check_host_and_origin(self, scope: Scope) -> None:
        """Raises `ApiError` unless the request is for us and sent by a page of ours, if by any."""
        self.check_host(scope)
        self._check_origin(Headers(scope=scope))

    def check_token(self, scope: Scope, token: str, who: str) -> Operator:
        """An operator called ``who``, if the token is right. Raises `ApiError`."""
        peer = peer_address(scope)
        self._check_throttle(peer)
        if self._token is None or not hmac.compare_digest(token_digest(token), self._token):
            self._throttle.failed(peer)
            log.warning("admin", outcome="refused", reason="token", peer=peer)
            raise _unauthorized("this is not the admin token")
        self._throttle.succeeded(peer)
        return Operator(who, peer)

    def _check_throttle(self, peer: str) -> None:
        if (wait := self._throttle.wait(peer)) > 0:
            raise ApiError(
                429, "too_many_failures", "too many wrong tokens; wait", retry_after=wait
            )

    def check_host(self, scope: Scope) -> None:
        """Raises `ApiError` for a name that is not ours."""
        name = _host_name(Headers(scope=scope).getlist("host"))
        # An address cannot be rebound, and this is the one that the client connected to.
        address = scope["server"][0] if scope.get("server") else None
        if name is None or (name not in self._hosts and name != address):
            raise ApiError(
                403,
                "host_not_allowed",
                "the Host of this request is none of this listener's; add it to admin_hosts",
            )

    @staticmethod
    def _check_origin(headers: Headers) -> None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        foreign = site is not None and site not in ("same-origin", "none")
        if origin == "null" and site == "same-origin":
            return  # a form of a page without referrer: the browser hides the origin as well
        if origin is not None:
            foreign = foreign or _authority(origin) != headers["host"].lower()
        if foreign:
            raise ApiError(403, "foreign_origin", "a page of another origin may not ask this")


class OperatorGate:
    """Passes authenticated requests to ``app``, with the operator in ``scope["operator"]``."""

    def __init__(self, access: Access, app: ASGIApp) -> None:
        self._access = access
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope["operator"] = self._access.authenticate(scope)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _authority(origin: str) -> str | None:
    """Host and port of an origin; None if it is malformed, which counts as foreign."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _unauthorized(sentence: str) -> ApiError:
    error = ApiError(401, "unauthorized", sentence)
    error.headers |= _BEARER
    return error


def _host_name(values: list[str]) -> str | None:
    """The name of the only ``Host`` header, without its port; None if it is malformed."""
    if len(values) != 1:
        return None
    try:
        parts = urlsplit(f"//{values[0]}")
        _ = parts.port
    except ValueError:
        return None
    if parts.netloc != values[0] or "@" in values[0]:
        return None
    return parts.hostname
