"""Users' own sessions at the provider, as routes of the app: a proxy to the receiver.

    asgi, flask, django    the routes for each framework

The browser only talks to its app, with the app's own cookie. The app queries the receiver with its
credential and the login that `remember` has stored. No cookie is forwarded.
"""

import base64
import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from backchannel_logout.contract.session import SESSION_MEMBERS, Session, SessionNotIdentified

PREFIX = "/account"
"""The path at the receiver, and the default path in an app."""

DELETE_HEADER = "X-Requested-With"
"""A header that a DELETE needs if the browser sends neither Fetch Metadata nor the app's origin: a
page of another site cannot send it without a CORS preflight."""

# A termination waits for the provider and for Redis.
_TIMEOUT = 15.0

_PATH = re.compile(r"(/[A-Za-z0-9._~%|:=+-]{1,1024}){0,3}/?")

_FORWARDED_HEADERS = ("content-type", "content-security-policy", "x-content-type-options",
              "referrer-policy", "retry-after", "content-length")  # fmt: skip


@dataclass(slots=True)
class ProxyResponse:
    """The app's answer. ``stream`` is the rest of a streaming body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    stream: Iterator[bytes] | None = None


class AccountProxy:
    """``url`` is the receiver's ``account_listen``, ``token`` this app's in ``account_apps``."""

    def __init__(self, url: str, token: str, *, timeout: float = _TIMEOUT) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError(
                "url is that of the receiver's account_listen, such as http://host:9100"
            )
        self._address = (parts.hostname, parts.port)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._base = parts.path.rstrip("/")
        self._token = token
        self._timeout = timeout

    def answer(
        self,
        method: str,
        path: str,
        session: Mapping[str, Any],
        headers: Mapping[str, str],
        *,
        mounted: str = PREFIX,
        streams: bool = False,
    ) -> ProxyResponse:
        """The answer to a request for ``path``, the part behind ``mounted``. Blocks.

        ``headers`` are the browser's, with lower-case names. ``mounted`` is the decoded path at
        which browsers find this proxy. ``streams``: a body may be a stream, which occupies a thread
        while a page waits.
        """
        if method not in ("GET", "DELETE") or not _PATH.fullmatch(path) or ".." in path:
            return _refusal(404, "not_found")
        if method == "DELETE" and is_cross_origin(headers):
            return _refusal(403, "foreign_origin")
        sent = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if path.startswith("/sessions"):
            try:
                sent["Bcl-Session"] = _encoded(Session.from_mapping(session))
            except SessionNotIdentified:
                return _refusal(401, "not_signed_in")
            if path.endswith("/events") or "event-stream" in headers.get("accept", ""):
                if not streams:
                    return _refusal(406, "no_event_stream")
                sent["Accept"] = "text/event-stream"
        try:
            answer = self._forward(method, path, sent)
        except (OSError, http.client.HTTPException):
            return _refusal(503, "temporarily_unavailable")
        return answer if path.rstrip("/") else _with_own_paths(answer, mounted)

    def _forward(self, method: str, path: str, sent: Mapping[str, str]) -> ProxyResponse:
        host, port = self._address
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        else:
            connection = http.client.HTTPSConnection(
                host, port, timeout=self._timeout, context=self._tls
            )
        try:
            connection.request(method, self._base + PREFIX + path.rstrip("/"), headers=dict(sent))
            response = connection.getresponse()
            headers = [(k, v) for k, v in response.getheaders() if k.lower() in _FORWARDED_HEADERS]
            headers.append(("Cache-Control", "no-store"))
            if response.getheader("content-type", "").startswith("text/event-stream"):
                headers.append(("X-Accel-Buffering", "no"))
                return ProxyResponse(response.status, headers, stream=_parts(connection, response))
            answer = ProxyResponse(response.status, headers, response.read())
        except BaseException:
            connection.close()
            raise
        connection.close()
        return answer


def _with_own_paths(page: ProxyResponse, mounted: str) -> ProxyResponse:
    """Replace the paths of the page's files, below `PREFIX`, by those below ``mounted``.

    They cannot be relative: browsers open the page with and without a slash at its end.
    """
    # Never two slashes at the beginning, which would name a host.
    path = "".join(f"/{quote(part)}" for part in mounted.split("/") if part)
    page.body = page.body.replace(f'"{PREFIX}/'.encode(), f'"{path}/'.encode())
    page.headers = [
        (k, str(len(page.body)) if k.lower() == "content-length" else v) for k, v in page.headers
    ]
    return page


def _parts(
    connection: http.client.HTTPConnection, response: http.client.HTTPResponse
) -> Iterator[bytes]:
    """The body in parts; the receiver sends one at least every 15 s."""
    if connection.sock is not None:
        connection.sock.settimeout(40)
    try:
        while part := response.read1(8192):
            yield part
    except (OSError, http.client.HTTPException):
        return  # the page reconnects
    finally:
        connection.close()


def _encoded(session: Session) -> str:
    members = {name: getattr(session, name) for name in SESSION_MEMBERS}
    return base64.urlsafe_b64encode(json.dumps(members).encode()).decode().rstrip("=")


def is_cross_origin(headers: Mapping[str, str]) -> bool:
    """Whether a page of another origin may have made the browser send this request.

    Browsers send Fetch Metadata, which no page can set, to https and to loopback, but not to plain
    http elsewhere, nor before Safari 16.4. Then the page's origin decides, which no page can set
    either.
    """
    if site := headers.get("sec-fetch-site"):
        return site != "same-origin"
    if headers.get(DELETE_HEADER.lower()):
        return False
    scheme, _, authority = headers.get("origin", "").partition("://")
    host = headers.get("host", "")
    port = {"http": ":80", "https": ":443"}.get(scheme)
    return port is None or not host or authority.lower() != host.lower().removesuffix(port)


def _refusal(status: int, code: str) -> ProxyResponse:
    headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
    if status == 503:
        headers.append(("Retry-After", "5"))
    return ProxyResponse(status, headers, json.dumps({"error": code}).encode())
