"""`/account`, the page, and `/account/active-sessions.js`, the component that it shows.

The files are the same for everybody: `sessions` decides who may see which sessions.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.web.resource import Handler, resource

_STATIC = Path(__file__).parent / "static"

# Only scripts and styles in files of our own origin.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_FILES = {
    "/account": ("page.html", "text/html; charset=utf-8"),
    "/account/page.css": ("page.css", "text/css; charset=utf-8"),
    "/account/active-sessions.js": ("active-sessions.js", "text/javascript; charset=utf-8"),
}


def routes() -> list[Route]:
    """A route for each file."""
    return [resource(path, GET=_file(*file)) for path, file in _FILES.items()]


def _file(name: str, media_type: str) -> Handler:
    content = (_STATIC / name).read_bytes()
    headers = {
        "Content-Type": media_type,
        "Content-Security-Policy": _PAGE_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        # An app may load the component from here instead of through its own proxy.
        "Cross-Origin-Resource-Policy": "cross-origin",
    }

    async def answer(_: Request) -> Response:
        return Response(content, headers=headers)

    return answer
