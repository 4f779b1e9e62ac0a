"""Shared by the provider's pages: HTML, the browser's cookie, CSRF."""

import base64
import hashlib
import secrets
from collections.abc import Mapping
from html import escape
from pathlib import Path
from urllib.parse import urlencode

from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from .sessions import RequestDevice, Session
from .state import Provider

NO_STORE = {"Cache-Control": "no-store"}

# Cookies ignore ports: the app on the same address uses another name.
COOKIE = "demo_provider"

_STYLE = Path(__file__).with_name("style.css").read_text("utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")

# No `form-action`: browsers apply it to redirects, and a login ends with one to the client.
_HTML_HEADERS = {
    **NO_STORE,
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def page(title: str, body: str, *, status: int = 200) -> HTMLResponse:
    """A complete page. ``title`` is escaped here, ``body`` by the caller."""
    return HTMLResponse(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><header>Demonstration provider</header>"
        f"<main><h1>{escape(title)}</h1>{body}</main></body></html>",
        status_code=status,
        headers=_HTML_HEADERS,
    )


def problem(sentence: str, *, status: int = 400) -> HTMLResponse:
    """A page for an error, without a redirect."""
    return page("This did not work", f"<p>{escape(sentence)}</p>", status=status)


def redirect(url: str, parameters: Mapping[str, str] | None = None) -> Response:
    """A redirect with 303, with the parameters added to the URL's query."""
    if parameters:
        url += ("&" if "?" in url else "?") + urlencode(parameters)
    return RedirectResponse(url, status_code=303, headers=NO_STORE)


# -- parameters ----------------------------------------------------------------------------


def once_each(query_or_form: QueryParams | FormData) -> dict[str, str] | None:
    """The text parameters, or None if one is repeated (RFC 6749, section 3.1).

    An empty one counts as absent, as that section demands.
    """
    pairs = [(name, value) for name, value in query_or_form.multi_items() if isinstance(value, str)]
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        return None
    return {name: value for name, value in parameters.items() if value}


# -- the browser ---------------------------------------------------------------------------


def current_session(request: Request, provider: Provider) -> Session | None:
    """The session in the browser's cookie, if it is alive; it counts as used."""
    return provider.sessions.seen(request.session.get("sid"), RequestDevice.of(request))


def sign_in(request: Request, session: Session) -> None:
    """Binds the browser to a session and removes everything of a previous one."""
    request.session.clear()
    request.session["sid"] = session.id


def csrf_field(request: Request) -> str:
    """The hidden CSRF field of every form."""
    token = request.session.setdefault("csrf", secrets.token_urlsafe(16))
    return f'<input type="hidden" name="csrf" value="{escape(token)}">'


async def checked_form(request: Request) -> dict[str, str] | None:
    """The fields of a POST from one of our own pages, or None."""
    async with request.form() as form:
        fields = once_each(form) or {}
    expected = request.session.get("csrf", "")
    token = fields.get("csrf", "")
    if not expected or not secrets.compare_digest(expected.encode(), token.encode()):
        return None
    return fields


def expired_form() -> HTMLResponse:
    return problem("This form is no longer valid. Go back, reload the page, try again.", status=403)
