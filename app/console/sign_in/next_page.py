"""Which page follows the sign-in: one of the console's own, whatever the address says.

The value comes from the address, so anybody can choose it in a link. Only the path of a page of the
console is taken, spelled plainly: no other host, no dots, no backslash, no encoded path. Anything
else leads to the first page.
"""

import re
from urllib.parse import urlencode

from starlette.requests import Request

HOME = "/console"

SIGN_IN = "/console/sign-in"

MAX_LENGTH = 2000
"""It has to fit into a cookie, encrypted."""

# A path without dots and percent signs, and a query of what RFC 3986 allows there.
_PAGE = re.compile(r"/console(?:/[A-Za-z0-9_-]+)*(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?")

# They are no pages, or would lead back to the sign-in.
_NO_PAGES = re.compile(r"/console/(?:sign-in|sign-out|callback|static|presence)(?:[/?].*)?")


def local_page(value: str | None) -> str:
    """``value``, where it is the path of a page of the console; else `HOME`."""
    if value is None or len(value) > MAX_LENGTH:
        return HOME
    if _PAGE.fullmatch(value) is None or _NO_PAGES.fullmatch(value) is not None:
        return HOME
    return value


def sign_in_for(request: Request) -> str:
    """The address of the sign-in that leads back to the page that is asked for."""
    if request.method != "GET":
        return SIGN_IN
    query = request.scope["query_string"].decode("latin-1")
    page = local_page(request.scope["path"] + (f"?{query}" if query else ""))
    return SIGN_IN if page == HOME else f"{SIGN_IN}?{urlencode({'next': page})}"
