"""FastAPI with a signed session cookie, a WebSocket and server-sent events.

When the provider ends the session, both connections are closed within a second.
``python -m examples.fastapi_app`` reads ISSUER, CLIENT_ID, CLIENT_SECRET, REDIS_URL, APP (its
name in the receiver's settings), SESSION_SECRET and PORT from the environment.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import uvicorn
from authlib.integrations.starlette_client import OAuth, OAuthError  # type: ignore[import-untyped]
from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from joserfc.errors import JoseError
from starlette.middleware.sessions import SessionMiddleware

from backchannel_logout import AsyncSessionGuard, remember
from backchannel_logout.asgi import BackchannelLogoutMiddleware


def create_app(environ: Mapping[str, str]) -> FastAPI:
    guard = AsyncSessionGuard(environ["REDIS_URL"], app=environ["APP"])
    app = FastAPI()
    app.add_api_websocket_route("/ws", echo)
    # The last added middleware is outermost: the session must exist when the first one reads it.
    app.add_middleware(
        BackchannelLogoutMiddleware, guard=guard, signed_in="name", login_url="/login"
    )
    secret = environ["SESSION_SECRET"]
    app.add_middleware(SessionMiddleware, secret_key=secret, session_cookie="fastapi_app")
    provider = OAuth().register(
        "provider",
        server_metadata_url=f"{environ['ISSUER']}/.well-known/openid-configuration",
        client_id=environ["CLIENT_ID"],
        client_secret=environ["CLIENT_SECRET"],
        client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
    )

    @app.get("/login")
    async def login(request: Request) -> Any:
        here = f"http://127.0.0.1:{environ['PORT']}"
        return await provider.authorize_redirect(request, f"{here}/callback")

    @app.get("/callback")
    async def callback(request: Request) -> Response:
        try:
            token = await provider.authorize_access_token(
                request, claims_options={"iss": {"essential": True, "value": environ["ISSUER"]}}
            )
            claims = token["userinfo"]
        except (OAuthError, JoseError, httpx.HTTPError, KeyError, ValueError):
            return HTMLResponse("The sign-in did not work.", 400)
        request.session.clear()
        remember(request.session, claims)
        request.session["name"] = str(claims.get("name") or claims["sub"])
        if len(token["id_token"]) <= 2048:  # browsers drop a cookie of more than 4,096 bytes
            request.session["id_token"] = token["id_token"]
        return RedirectResponse("/", 303)

    @app.get("/")
    async def home(request: Request) -> Response:
        out = '<form method="post" action="/logout"><button>Sign out</button></form>'
        return HTMLResponse(out if "name" in request.session else '<a href="/login">Sign in</a>')

    @app.get("/me", dependencies=[Depends(signed_in)])
    async def me(request: Request) -> Response:
        return JSONResponse(
            {"name": request.session["name"]}, headers={"Cache-Control": "no-store"}
        )

    @app.get("/events", dependencies=[Depends(signed_in)])
    async def events() -> Response:
        return StreamingResponse(ticks(), media_type="text/event-stream")

    @app.post("/logout")
    async def logout(request: Request) -> Any:
        id_token = request.session.get("id_token")
        request.session.clear()
        try:
            return await provider.logout_redirect(
                request,
                f"http://127.0.0.1:{environ['PORT']}/",
                id_token_hint=id_token,
                client_id=environ["CLIENT_ID"],
            )
        except (RuntimeError, httpx.HTTPError):  # no such endpoint, or the provider is down
            return RedirectResponse("/", 303)

    return app


def signed_in(request: Request) -> None:
    if "name" not in request.session:
        raise HTTPException(401, headers={"Cache-Control": "no-store"})


async def echo(socket: WebSocket) -> None:
    if "name" not in socket.session:
        await socket.close()
        return
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


async def ticks() -> AsyncIterator[str]:
    """An event each second, while the browser listens and its session lives."""
    while True:
        yield "data: still signed in\n\n"
        await asyncio.sleep(1)


if __name__ == "__main__":
    # An access log would contain authorization codes.
    uvicorn.run(create_app(os.environ), port=int(os.environ["PORT"]), access_log=False)
