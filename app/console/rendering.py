"""Templates, and the files they name; each file's name has a hash of what is in it."""

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

from app.console.texts import ACTS, STEPS, TEXTS
from app.formatting import ago, moment, rounded_duration

STATIC = "/console/static/"

_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}


def ident(value: str) -> Markup:
    """An id that anybody may have chosen: apart from the text around it (bidirectional marks reach
    no further), and with each character that nobody would see named. Copied, it is what it was."""
    shown = "".join(escape(one) if _is_seen(one) else _named(one) for one in value)
    return Markup(f"<bdi>{shown}</bdi>")  # noqa: S704  every character is escaped or named


def _is_seen(character: str) -> bool:
    return character.isprintable()


def _named(character: str) -> str:
    code = f"U+{ord(character):04X}"
    # HTML can hold no other control characters, and UTF-8 no half of a pair.
    kept = character in "\t\n" or unicodedata.category(character) not in ("Cc", "Cs")
    return f'<bdi class="ctl" data-name="{code}">{character if kept else ""}</bdi>'


_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\*(\S(?:[^*]*\S)?)\*|\[([^]]+)\]\([^)]*\)")


def inline(value: str) -> Markup:
    """Markdown within a line: code, emphasis, and of a link its text."""

    def marked(found: re.Match[str]) -> str:
        code, strong, emphasis, link = found.groups()
        if code is not None:
            return f"<code>{code}</code>"
        if strong is not None:
            return f"<strong>{strong}</strong>"
        return link if emphasis is None else f"<em>{emphasis}</em>"

    return Markup(_INLINE.sub(marked, str(escape(value))))  # noqa: S704  escaped before


class Rendering:
    """``signs_in_with`` says whether there is a token, and a provider, to sign in with."""

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
            "t": TEXTS, "steps": STEPS, "acts": ACTS, "static": self._read_static(),
            "has_token": token, "has_oidc": oidc,
        }  # fmt: skip
        self._environment.filters |= {
            "moment": moment, "duration": rounded_duration, "ago": ago,
            "ident": ident, "inline": inline,
        }  # fmt: skip

    def page(self, request: Request, name: str, status: int = 200, **context: Any) -> Response:
        """The template ``name`` as an answer."""
        session = request.scope.get("session") or {}
        text = self._environment.get_template(f"{name}.html").render(
            view=name, path=request.url.path, who=session.get("shown") or session.get("who"),
            csrf=session.get("csrf", ""), **context,
        )  # fmt: skip
        return HTMLResponse(text, status)

    async def file(self, request: Request) -> Response:
        """A file of ours; its name changes when it does, so it may be kept for ever."""
        found = self._files.get(request.path_params["name"])
        if found is None:
            return Response("not found\n", 404, media_type="text/plain")
        return Response(found[1], media_type=found[0], headers=_FOR_EVER)

    def _read_static(self) -> dict[str, str]:
        """The address of each file, by its own name."""
        addresses = {}
        for one in files(__package__).joinpath("static").iterdir():
            content = one.read_bytes()
            stem, _, ending = one.name.rpartition(".")
            name = f"{stem}.{hashlib.sha256(content).hexdigest()[:12]}.{ending}"
            kind = mimetypes.guess_type(one.name)[0] or "application/octet-stream"
            self._files[name] = (kind, content)
            addresses[one.name] = STATIC + name
        return addresses
