"""Who may use what is behind the operators' listener beyond its health: one gate for all of it.

In this order, so that each answer tells as little as it can:

    host     the name that the request is for must be ours: a page of the web whose name is
             made to point here (DNS rebinding) asks for its own name
    origin   a browser says which page asks; no other page than one of ours may
    wait     who was wrong about the token too often waits, also with the right one
    token    compared in constant time

The console will come in by the same gate, with a cookie in place of the header.
"""

import hashlib
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
from app.web.errors import ApiFault
from app.web.operator import Operator

log = new_log(__name__)

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

# As many bits as an AES-256 key: nobody guesses it, however often.
_TOKEN_BYTES = 32

_BEARER = {"WWW-Authenticate": 'Bearer realm="backchannel-logout admin"'}


def new_token() -> str:
    """A token for ``admin_token = "generate"``."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


class Access:
    """``hosts`` are further names than those of loopback and the address that was connected to."""

    def __init__(
        self,
        token: str | None,
        hosts: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = None if token is None else _digest(token)
        self._hosts = LOOPBACK_HOSTS | {host.lower() for host in hosts}
        self._failures = AuthThrottle(clock)

    def identify(self, scope: Scope) -> Operator:
        """Who sends this request. Raises `ApiFault`."""
        headers = Headers(scope=scope)
        self.check_page(scope)
        if (signed_in := scope.get("signed_in")) is not None:
            found: Operator = signed_in
            return found
        shown = _bearer(headers)
        if shown is None:
            self._check_wait(_peer(scope))
            # Nothing was guessed, so nothing is counted.
            raise _unauthorized("send the admin token: Authorization: Bearer <token>")
        return self.check_token(scope, shown, API_NAME)

    def check_page(self, scope: Scope) -> None:
        """Whether the request is for us, and from no other page than ours. Raises `ApiFault`."""
        headers = Headers(scope=scope)
        self.check_host(scope)
        self._check_origin(headers)

    def check_token(self, scope: Scope, shown: str, who: str) -> Operator:
        """Whoever shows the right token is let in as ``who``. Raises `ApiFault`."""
        peer = _peer(scope)
        self._check_wait(peer)
        if self._token is None or not hmac.compare_digest(_digest(shown), self._token):
            self._failures.wrong(peer)
            log.warning("admin", outcome="refused", reason="token", peer=peer)
            raise _unauthorized("this is not the admin token")
        self._failures.right(peer)
        return Operator(who, peer)

    def _check_wait(self, peer: str) -> None:
        if (wait := self._failures.wait(peer)) > 0:
            raise ApiFault(
                429, "too_many_failures", "too many wrong tokens; wait", retry_after=wait
            )

    def check_host(self, scope: Scope) -> None:
        """Raises `ApiFault` for a name that is none of ours."""
        headers = Headers(scope=scope)
        name = _host_name(headers.getlist("host"))
        # An address can not be rebound, and this one is where the request has come to.
        own = scope["server"][0] if scope.get("server") else None
        if name is None or (name not in self._hosts and name != own):
            raise ApiFault(
                403,
                "host_not_allowed",
                "the Host of this request is none of this listener's; add it to admin_hosts",
            )

    @staticmethod
    def _check_origin(headers: Headers) -> None:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        foreign = site is not None and site not in ("same-origin", "none")
        if origin == "null" and site == "same-origin":
            return  # a form of a page that sends no referrer: the browser hides the origin, too
        if origin is not None:
            foreign = foreign or _authority(origin) != headers["host"].lower()
        if foreign:
            raise ApiFault(403, "foreign_origin", "a page of another origin may not ask this")


class OperatorGate:
    """Lets through to ``app`` whoever is known; ``scope["operator"]`` says who it is."""

    def __init__(self, access: Access, app: ASGIApp) -> None:
        self._access = access
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope["operator"] = self._access.identify(scope)
        except ApiFault as fault:
            await fault.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _authority(origin: str) -> str | None:
    """Host and port of an origin; None where it is malformed, which is foreign."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _peer(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else "-"


def _unauthorized(sentence: str) -> ApiFault:
    fault = ApiFault(401, "unauthorized", sentence)
    fault.headers |= _BEARER
    return fault


def _bearer(headers: Headers) -> str | None:
    """The token, of exactly one header that has one."""
    found = headers.getlist("authorization")
    if len(found) != 1:
        return None
    scheme, _, token = found[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _digest(token: str) -> bytes:
    """Both sides have one length then, and any characters may be compared."""
    return hashlib.sha256(token.encode()).digest()


def _host_name(found: list[str]) -> str | None:
    """The name of exactly one Host, without its port; None where it can not be one."""
    if len(found) != 1:
        return None
    try:
        parts = urlsplit(f"//{found[0]}")
        _ = parts.port
    except ValueError:
        return None
    if parts.netloc != found[0] or "@" in found[0]:
        return None
    return parts.hostname
