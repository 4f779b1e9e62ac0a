"""`/account` and `/account/active-sessions.js`: the page, and the component that it shows.

Files, the same for everybody: who may see which sessions is decided where those are asked for.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.web.resource import Handler, resource

_STATIC = Path(__file__).parent / "static"

# Scripts and styles of our own origin, in files, and nothing else.
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


PATHS = frozenset(_FILES)
"""What needs no proof."""


def _file(name: str, media_type: str) -> Handler:
    content = (_STATIC / name).read_bytes()
    headers = {
        "Content-Type": media_type,
        "Content-Security-Policy": _PAGE_POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        # An app that loads the component from here, in place of through its own proxy.
        "Cross-Origin-Resource-Policy": "cross-origin",
    }

    async def answer(_: Request) -> Response:
        return Response(content, headers=headers)

    return answer
