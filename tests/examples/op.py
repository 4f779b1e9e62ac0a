"""Runs the demonstration provider in this process, with browsers and clients."""

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import jwt

from examples.demo_provider.app import create_app
from examples.demo_provider.config import Client, Config
from tests.support.providers.provider import private_key

VERIFIER = "v" * 43
CHALLENGE = (
    base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
)
API = {"Authorization": "Bearer token-of-the-api"}

CONFIG = Config(
    port=8001,
    api_token="token-of-the-api",
    clients=(
        Client(
            client_id="shop-web",
            client_secret="secret of shop: +%",
            redirect_uri="http://shop.example/callback",
            backchannel_logout_uri="http://receiver.example/backchannel-logout",
            post_logout_redirect_uri="http://shop.example/",
        ),
        Client(
            client_id="news-web",
            client_secret="secret of news",
            redirect_uri="http://news.example/callback",
            backchannel_logout_uri="http://other.example/backchannel-logout",
        ),
    ),
)
SHOP, NEWS = CONFIG.clients


@dataclass
class Op:
    """The provider, its clock, and its POSTs to the receivers."""

    clock: float = 1_800_000_000.25
    answer: httpx.Response | Exception = field(default_factory=lambda: httpx.Response(200))
    posted: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    browsers: list[httpx.AsyncClient] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self._receive))
        self.app = create_app(CONFIG, private_key("RS256"), self.http, lambda: self.clock)

    def _receive(self, request: httpx.Request) -> httpx.Response:
        self.posted.append((str(request.url), dict(parse_qsl(request.content.decode()))))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def browser(self, user_agent: str = "Firefox/1") -> httpx.AsyncClient:
        """A browser without cookies; it follows no redirects."""
        browser = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url=CONFIG.issuer,
            headers={"User-Agent": user_agent},
        )
        self.browsers.append(browser)
        return browser

    async def code(self, browser: httpx.AsyncClient, client: Client = SHOP, **more: str) -> str:
        """Authorizes in a signed-in browser; returns the code."""
        answer = await browser.get("/authorize", params=request_of(client, **more))
        return sent_back(answer, client)["code"]

    async def exchange(
        self, code: str, client: Client = SHOP, secret: str | None = None, **changes: str
    ) -> httpx.Response:
        """Exchanges a code, with changes to the parameters; empty ones are left out."""
        given = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": client.redirect_uri,
            "code_verifier": VERIFIER,
            "client_id": client.client_id,
            "client_secret": client.client_secret if secret is None else secret,
        } | changes
        data = {name: value for name, value in given.items() if value}
        return await self.browser("client").post("/token", data=data)

    async def claims(self, id_token: str, audience: str) -> dict[str, Any]:
        """The claims of a token, verified with the key that the provider publishes."""
        jwks = (await self.browser("client").get("/jwks")).json()
        key = jwt.PyJWKSet.from_dict(jwks)[jwt.get_unverified_header(id_token)["kid"]]
        claims: dict[str, Any] = jwt.decode(
            id_token, key, algorithms=["RS256"], audience=audience, issuer=CONFIG.issuer,
            options={"verify_exp": False, "verify_iat": False},
        )  # fmt: skip
        return claims

    async def sid(self, browser: httpx.AsyncClient, client: Client = SHOP) -> str:
        """Signs the browser's user in at a client; returns the ID token's ``sid``."""
        answer = await self.exchange(await self.code(browser, client), client)
        claims = await self.claims(answer.json()["id_token"], client.client_id)
        return str(claims["sid"])


async def sign_in(browser: httpx.AsyncClient, user: str = "alice") -> None:
    """Signs in at the provider's own page."""
    fields = {"csrf": await csrf(browser, "/login"), "user": f"demo|{user}"}
    answer = await browser.post("/login", data=fields)
    assert answer.status_code == 303


async def csrf(browser: httpx.AsyncClient, path: str) -> str:
    """The CSRF token of the page's forms."""
    found = re.search(r'name="csrf" value="([^"]+)"', (await browser.get(path)).text)
    assert found
    return found[1]


def request_of(client: Client = SHOP, **changes: str) -> dict[str, str]:
    """A valid authorization request, with changes; empty parameters are left out."""
    given = {
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uri,
        "response_type": "code",
        "scope": "openid profile",
        "state": "state-1",
        "nonce": "nonce-1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    } | changes
    return {name: value for name, value in given.items() if value}


def sent_back(answer: httpx.Response, client: Client = SHOP) -> dict[str, str]:
    """The parameters of the redirect to the client."""
    assert answer.status_code == 303, answer.text
    where = urlsplit(answer.headers["location"])
    assert where._replace(query="").geturl() == client.redirect_uri
    return {name: values[0] for name, values in parse_qs(where.query).items()}
