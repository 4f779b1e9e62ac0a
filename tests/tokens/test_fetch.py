"""Fetches one document."""

import httpx

from app.tokens.fetch import fetch_document
from tests.support.providers.api_server import ApiServer, Response


async def test_no_cookie_is_stored(client: httpx.AsyncClient) -> None:
    """The client is shared: a cookie would link calls that have nothing in common."""
    with ApiServer() as server:
        server.faults.extend([Response(200, {}, {"Set-Cookie": "a=b; Path=/"}), Response(200, {})])
        for _ in range(2):
            await fetch_document(client, f"{server.origin}/keys", allow_http=True)
    assert [request.headers.get("cookie") for request in server.requests] == [None, None]
