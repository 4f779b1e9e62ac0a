"""A Django project in one file: users sign in with OpenID Connect, and the provider signs them out.

``python -m examples.django_app`` reads ISSUER, CLIENT_ID, CLIENT_SECRET, REDIS_URL, APP (its name
in the receiver's settings), PORT, SECRET_KEY, SESSION_ENGINE and DATABASE (a file) from the
environment. It runs under ASGI; with the arguments ``runserver PORT --noreload`` under WSGI.
"""

import os
import secrets
import sys
from urllib.parse import urlencode

import httpx
import jwt
import uvicorn
from authlib.integrations import httpx_client as oauth  # type: ignore[import-untyped]
from django import urls  # type: ignore[import-untyped]
from django.conf import settings  # type: ignore[import-untyped]
from django.contrib import auth  # type: ignore[import-untyped]
from django.core import asgi, management  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponse, JsonResponse  # type: ignore[import-untyped]
from django.shortcuts import redirect  # type: ignore[import-untyped]
from django.views.decorators.http import require_POST  # type: ignore[import-untyped]

from backchannel_logout.django import remember

ISSUER, CLIENT_ID, PORT = (os.environ[name] for name in ("ISSUER", "CLIENT_ID", "PORT"))
FILE = {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}
settings.configure(
    SECRET_KEY=os.environ["SECRET_KEY"], ALLOWED_HOSTS=["127.0.0.1"], ROOT_URLCONF=__name__,
    INSTALLED_APPS=[f"django.contrib.{name}" for name in ("auth", "contenttypes", "sessions")],
    DATABASES={"default": FILE}, SESSION_ENGINE=os.environ["SESSION_ENGINE"], LOGIN_URL="/login",
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "backchannel_logout.django.BackchannelLogoutMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    BACKCHANNEL_LOGOUT={"redis": os.environ["REDIS_URL"], "app": os.environ["APP"]},
)  # fmt: skip
PROVIDER = httpx.get(f"{ISSUER}/.well-known/openid-configuration").raise_for_status().json()
JWKS = jwt.PyJWKClient(PROVIDER["jwks_uri"])
CLIENT = {"client_id": CLIENT_ID, "client_secret": os.environ["CLIENT_SECRET"], "scope": "openid"}
CLIENT |= {"redirect_uri": f"http://127.0.0.1:{PORT}/callback", "code_challenge_method": "S256"}


def login(request: HttpRequest) -> HttpResponse:
    new = {name: secrets.token_urlsafe(48) for name in ("state", "nonce", "code_verifier")}
    request.session[f"login {new['state']}"] = new
    client, endpoint = oauth.OAuth2Client(**CLIENT), PROVIDER["authorization_endpoint"]
    return redirect(client.create_authorization_url(endpoint, **new)[0])


def callback(request: HttpRequest) -> HttpResponse:
    try:
        sign_in(request)
    except (KeyError, oauth.OAuthError, jwt.PyJWTError, httpx.HTTPError):
        return HttpResponse('The sign-in did not work. <a href="/login">Sign in</a>', status=400)
    return redirect("/")


def sign_in(request: HttpRequest) -> None:
    started = request.session.pop(f"login {request.GET['state']}")
    token = oauth.OAuth2Client(**CLIENT).fetch_token(
        PROVIDER["token_endpoint"], code=request.GET["code"], code_verifier=started["code_verifier"]
    )["id_token"]
    claims = jwt.decode(
        token, JWKS.get_signing_key_from_jwt(token), ["RS256"], leeway=60, issuer=ISSUER,
        audience=CLIENT_ID, options={"require": ["exp", "iat", "sub", "nonce"]},
    )  # fmt: skip
    if claims["nonce"] != started["nonce"]:
        raise oauth.OAuthError("nonce")
    user, _ = auth.get_user_model().objects.get_or_create(username=claims["sub"])
    remember(request, claims)
    auth.login(request, user)
    request.session["id_token"] = token


def home(request: HttpRequest) -> HttpResponse:
    button = '<form method="post" action="/logout"><button>Sign out</button></form>'
    return HttpResponse(button if request.user.is_authenticated else '<a href="/login">Sign in</a>')


def me(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return JsonResponse({"error": "not_signed_in"}, status=401)
    login = request.session["backchannel_logout"]
    return JsonResponse({name: login[name] for name in ("iss", "sub", "sid")})


def logout(request: HttpRequest) -> HttpResponse:
    token = request.session.get("id_token")
    auth.logout(request)
    if "end_session_endpoint" not in PROVIDER:
        return redirect("/")
    # Anyone may request "/", so there is no state to compare.
    parameters = {"client_id": CLIENT_ID, "post_logout_redirect_uri": f"http://127.0.0.1:{PORT}/"}
    parameters |= {"id_token_hint": token} if token else {}
    return redirect(f"{PROVIDER['end_session_endpoint']}?{urlencode(parameters)}")


urlpatterns = [urls.path("", home), urls.path("logout", require_POST(logout))]
urlpatterns += [urls.path(view.__name__, view) for view in (login, callback, me)]
application = asgi.get_asgi_application()

if __name__ == "__main__":
    management.execute_from_command_line(["", "migrate", "--verbosity=0"])
    if sys.argv[1:]:
        management.execute_from_command_line(sys.argv)
    else:  # an access log would contain authorization codes
        uvicorn.run(application, port=int(PORT), access_log=False)
