"""Minimal servers on the receiver's HTTP server (uvicorn, uvloop, httptools):

    bare       an ASGI function that reads the body and answers 200
    starlette  the same as a route of Starlette
    ceiling    an ASGI function that reads the body, parses the token, verifies its signature and
               answers 200 or 400: the minimum for any receiver in Python

``python -m bench.servers.asgi <name> <port> [<jwks>]`` runs one.
"""

import base64
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

import jwt
import uvicorn
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.servers import Rig, Server, free_port

PATH = "/backchannel-logout"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


@contextmanager
def running(rig: Rig, name: str) -> Iterator[Server]:
    """Runs one of the three in a process."""
    jwks = rig.directory / "jwks.json"
    jwks.write_text(json.dumps(rig.provider.jwks()))
    port = free_port()
    command = [sys.executable, "-m", "bench.servers.asgi", name, str(port), str(jwks)]
    with rig.process(name, port, command) as pid:
        yield Server(name, port, PATH, pid)


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _answer(send: Send, status: int) -> None:
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def bare(_: Message, receive: Receive, send: Send) -> None:
    await _body(receive)
    await _answer(send, 200)


async def _no_op(request: Request) -> Response:
    await request.body()
    return Response()


def starlette() -> App:
    return Starlette(routes=[Route(PATH, _no_op, methods=["POST"])])


def ceiling(keys: dict[str, Any]) -> App:
    """Verifies with ``keys``, public keys by their ``kid``; checks no claims."""

    async def app(_: Message, receive: Receive, send: Send) -> None:
        form = parse_qs((await _body(receive)).decode())
        try:
            verified(form["logout_token"][0], keys)
        except (KeyError, ValueError, InvalidSignature):
            await _answer(send, 400)
        else:
            await _answer(send, 200)

    return app


def verified(token: str, keys: dict[str, Any]) -> dict[str, Any]:
    """The verified claims. Raises ``KeyError``, ``ValueError`` or ``InvalidSignature``."""
    head, payload, end = token.split(".")
    header = json.loads(_decoded(head))
    claims: dict[str, Any] = json.loads(_decoded(payload))
    key, signature, data = keys[header["kid"]], _decoded(end), f"{head}.{payload}".encode()
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ec.EllipticCurvePublicKey):
        half = len(signature) // 2
        r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
        key.verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    else:
        key.verify(signature, data)
    return claims


def _decoded(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def public_keys(jwks: dict[str, Any]) -> dict[str, Any]:
    """The public keys of a key set, by their ``kid``."""
    return {str(jwk.key_id): jwk.key for jwk in jwt.PyJWKSet.from_dict(jwks).keys}


def _app(name: str, jwks: str) -> App:
    if name == "ceiling":
        with open(jwks) as file:  # noqa: PTH123
            return ceiling(public_keys(json.load(file)))
    return starlette() if name == "starlette" else bare


if __name__ == "__main__":
    uvicorn.run(
        _app(sys.argv[1], sys.argv[3]),
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
    )
