"""Flask with sessions in Redis: users sign in with OpenID Connect, and the provider signs them out.

``python -m examples.flask_app`` reads ISSUER, CLIENT_ID, CLIENT_SECRET, REDIS_URL, APP (its name
in the receiver's settings) and PORT from the environment.
"""

import contextlib
import logging
import os
import secrets
from collections.abc import Mapping
from urllib.parse import urlencode

import httpx
import jwt
from authlib.integrations import httpx_client as authlib  # type: ignore[import-untyped]
from flask import Flask, redirect, request, session
from flask.typing import ResponseReturnValue as Answer
from flask_session import Session  # type: ignore[import-untyped]
from redis import Redis

from backchannel_logout import SessionGuard, remember
from backchannel_logout.flask import BackchannelLogout


def create_app(environ: Mapping[str, str]) -> Flask:
    issuer, redis_url = environ["ISSUER"], environ["REDIS_URL"]
    app = Flask(__name__)
    app.config |= {"SESSION_TYPE": "redis", "SESSION_REDIS": Redis.from_url(redis_url)}
    app.config |= {"SESSION_COOKIE_NAME": "flask_app", "SESSION_COOKIE_SAMESITE": "Lax"}
    Session(app)
    guard = SessionGuard(redis_url, app=environ["APP"])
    BackchannelLogout(app, guard=guard, signed_in="name", login_url="/login")

    provider = httpx.get(f"{issuer}/.well-known/openid-configuration").raise_for_status().json()
    jwks = jwt.PyJWKClient(provider["jwks_uri"])
    here = f"http://127.0.0.1:{environ['PORT']}/"
    client = {
        "client_id": environ["CLIENT_ID"], "client_secret": environ["CLIENT_SECRET"],
        "redirect_uri": f"{here}callback",
        "scope": "openid profile", "code_challenge_method": "S256",
    }  # fmt: skip

    @app.get("/login")
    def login() -> Answer:
        new = {name: secrets.token_urlsafe(48) for name in ("state", "nonce", "code_verifier")}
        session["login"], at = new, provider["authorization_endpoint"]
        return redirect(authlib.OAuth2Client(**client).create_authorization_url(at, **new)[0])

    @app.get("/callback")
    def callback() -> Answer:
        started, claims, token = session.pop("login", {}), {}, ""
        if request.args.get("state", "") != started.get("state"):
            return "This sign-in was not started here.", 400
        with contextlib.suppress(authlib.OAuthError, jwt.PyJWTError, httpx.HTTPError, KeyError):
            token = authlib.OAuth2Client(**client).fetch_token(
                provider["token_endpoint"],
                code=request.args.get("code", ""), code_verifier=started["code_verifier"],
            )["id_token"]  # fmt: skip
            claims = jwt.decode(
                token, jwks.get_signing_key_from_jwt(token), ["RS256"], leeway=60,
                issuer=issuer, audience=client["client_id"],
                options={"require": ["exp", "iat", "sub"]},
            )  # fmt: skip
        if claims.get("nonce") != started["nonce"]:
            return "The sign-in did not work.", 400
        session.clear()
        remember(session, claims)
        session["name"] = str(claims.get("name") or claims["sub"])
        session["id_token"] = token
        # Otherwise Flask-Session keeps the session's id, which an attacker may have planted.
        app.session_interface.regenerate(session)  # type: ignore[attr-defined]
        return redirect("/")

    @app.get("/")
    def home() -> Answer:
        if "name" in session:
            return '<form method="post" action="/logout"><button>Sign out</button></form>'
        return '<a href="/login">Sign in</a>'

    @app.get("/me")
    def me() -> Answer:
        if "name" not in session:
            return {"error": "not_signed_in"}, 401, {"Cache-Control": "no-store"}
        return {"name": session["name"]}, 200, {"Cache-Control": "no-store"}

    @app.post("/logout")
    def logout() -> Answer:
        id_token = session.get("id_token")
        session.clear()
        # Anyone may request "/", so there is no state to compare.
        parameters = {"client_id": client["client_id"], "post_logout_redirect_uri": here}
        parameters |= {"id_token_hint": id_token} if id_token else {}
        endpoint = provider.get("end_session_endpoint")
        return redirect(f"{endpoint}?{urlencode(parameters)}" if endpoint else here)

    return app


if __name__ == "__main__":
    # An access log would contain authorization codes.
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    create_app(os.environ).run(port=int(os.environ["PORT"]))
