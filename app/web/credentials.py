"""Reads a bearer token from a request, and prepares it for a comparison in constant time."""

import hashlib

from starlette.datastructures import Headers


def bearer_token(headers: Headers) -> str | None:
    """The token of the only ``Authorization`` header."""
    values = headers.getlist("authorization")
    if len(values) != 1:
        return None
    scheme, _, token = values[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def token_digest(token: str) -> bytes:
    """Gives both sides of a comparison the same length, and allows any characters."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
