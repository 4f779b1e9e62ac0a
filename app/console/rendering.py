"""Renders templates, and serves the static files, whose names contain a hash of their content."""

import hashlib
import mimetypes
import re
import unicodedata
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.console.texts import ACTS, ENDED, FEED, KINDS, PHASES, SESSION_STATES
from app.formatting import TIME_FORMS, ago, moment, rounded_duration

STATIC = "/console/static/"

_IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}


def ident(value: str) -> Markup:
    """An id with arbitrary characters, isolated so that bidirectional marks do not affect the text
    around it, and with each invisible character named. Copied, it is unchanged."""
    marked = "".join(escape(char) if char.isprintable() else _named(char) for char in value)
    return Markup(f"<bdi>{marked}</bdi>")  # noqa: S704  every character is escaped or named


def _named(character: str) -> str:
    code = f"U+{ord(character):04X}"
    # HTML allows no other control characters, and UTF-8 no surrogates.
    kept = character in "\t\n" or unicodedata.category(character) not in ("Cc", "Cs")
    return f'<bdi class="ctl" data-name="{code}">{character if kept else ""}</bdi>'


_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\*(\S(?:[^*]*\S)?)\*|\[([^]]+)\]\([^)]*\)")


def inline(value: str) -> Markup:
    """Markdown within a line: code, emphasis, and the text of a link."""

    def marked(match: re.Match[str]) -> str:
        code, strong, emphasis, link = match.groups()
        if code is not None:
            return f"<code>{code}</code>"
        if strong is not None:
            return f"<strong>{strong}</strong>"
        return link if emphasis is None else f"<em>{emphasis}</em>"

    return Markup(_INLINE.sub(marked, str(escape(value))))  # noqa: S704  escaped before


class Rendering:
    """``token`` and ``oidc``: the ways to sign in."""

    def __init__(self, *, token: bool, oidc: bool) -> None:
        self._files: dict[str, tuple[str, bytes]] = {}
        self._environment = Environment(
            loader=PackageLoader(__package__, "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals |= {
            "acts": ACTS, "ended": ENDED, "kinds": KINDS, "phases": PHASES, "words": FEED,
            "session_states": SESSION_STATES, "time_forms": TIME_FORMS,
            "static": self._read_static(), "has_token": token, "has_oidc": oidc,
        }  # fmt: skip
        self._environment.filters |= {
            "moment": moment, "duration": rounded_duration, "ago": ago,
            "ident": ident, "inline": inline,
        }  # fmt: skip

    def page(self, request: Request, name: str, status: int = 200, **context: Any) -> Response:
        """The rendered template ``name``."""
        session = request.scope.get("session") or {}
        text = self._environment.get_template(f"{name}.html").render(
            view=name, path=request.url.path, who=session.get("display_name") or session.get("who"),
            csrf=session.get("csrf", ""), **context,
        )  # fmt: skip
        return HTMLResponse(text, status)

    async def file(self, request: Request) -> Response:
        """A static file. Its name changes with its content, so it may be cached forever."""
        file = self._files.get(request.path_params["name"])
        if file is None:
            return Response("not found\n", 404, media_type="text/plain")
        return Response(file[1], media_type=file[0], headers=_IMMUTABLE)

    def _read_static(self) -> dict[str, str]:
        """The address of each file, by its plain name."""
        addresses = {}
        for file in files(__package__).joinpath("static").iterdir():
            content = file.read_bytes()
            stem, _, suffix = file.name.rpartition(".")
            name = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{suffix}"
            media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            self._files[name] = (media_type, content)
            addresses[file.name] = STATIC + name
        return addresses
