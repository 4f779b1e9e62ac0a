"""The page after the sign-in: always one of the console's own.

The value comes from the address, so anybody can choose it in a link. Only a plainly spelled path of
a page of the console is accepted: no other host, no dots, no backslash, no encoded path. Everything
else leads to the first page.
"""

import re
from urllib.parse import urlencode

from starlette.requests import Request

HOME = "/console"

SIGN_IN = "/console/sign-in"

MAX_LENGTH = 2000
"""It has to fit into an encrypted cookie."""

# A path without dots and percent signs, and a query of what RFC 3986 allows there.
_PAGE = re.compile(r"/console(?:/[A-Za-z0-9_-]+)*(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?")

# Not pages, or back at the sign-in.
_EXCLUDED = re.compile(r"/console/(?:sign-in|sign-out|callback|static|presence)(?:[/?].*)?")


def local_page(value: str | None) -> str:
    """``value`` if it is the path of a page of the console, otherwise `HOME`."""
    if value is None or len(value) > MAX_LENGTH:
        return HOME
    if _PAGE.fullmatch(value) is None or _EXCLUDED.fullmatch(value) is not None:
        return HOME
    return value


def sign_in_for(request: Request) -> str:
    """The address of the sign-in, which leads back to the requested page."""
    if request.method != "GET":
        return SIGN_IN
    query = request.scope["query_string"].decode("latin-1")
    page = local_page(request.scope["path"] + (f"?{query}" if query else ""))
    return SIGN_IN if page == HOME else f"{SIGN_IN}?{urlencode({'next': page})}"
