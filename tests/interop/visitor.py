"""A person in front of a browser: signs in to apps, and out at the provider."""

from typing import Any, Protocol

import httpx

from backchannel_logout.contract.session import MEMBER
from tests.interop.browser import Browser
from tests.interop.relying_app import RelyingApp
from tests.support.receiver import wait_for


class SignIn(Protocol):
    """The provider's sign-in pages, as a person passes them."""

    def sign_in(self, browser: Browser, page: httpx.Response, login: str) -> None:
        """From the provider's first page to the app, as ``login``."""

    def continue_session(self, browser: Browser, page: httpx.Response) -> None:
        """The same for a browser with a session at the provider."""


class Visitor:
    """A person who signs in as ``login``."""

    def __init__(self, op: SignIn, browser: Browser, login: str) -> None:
        self._op = op
        self.browser = browser
        self.login = login

    def sign_in(self, app: RelyingApp) -> dict[str, Any]:
        """Sign in to the app at the provider; returns the remembered login."""
        self._op.sign_in(self.browser, self.browser.open(app.url + "/login"), self.login)
        return self._signed_in(app)

    def sign_in_without_password(self, app: RelyingApp) -> dict[str, Any]:
        """Sign in to another app within the session that the provider already has."""
        self._op.continue_session(self.browser, self.browser.open(app.url + "/login"))
        return self._signed_in(app)

    def _signed_in(self, app: RelyingApp) -> dict[str, Any]:
        assert self.is_signed_in(app)
        return self.remembered(app)

    def remembered(self, app: RelyingApp) -> dict[str, Any]:
        """The login that the app remembers, even if the session is dead."""
        login: dict[str, Any] = app.sessions[self._key(app)][MEMBER]
        return login

    def refresh(self, app: RelyingApp) -> int:
        """Have the app refresh its tokens; returns the ``iat`` of the new ID token."""
        assert self.browser.open(app.url + "/refresh").status_code == 204
        iat: int = app.tokens[self._key(app)].claims["iat"]
        return iat

    def end_session(self, app: RelyingApp, answer: str) -> None:
        """Follow the app's link to the provider and answer whether the session there ends."""
        page = self.browser.open(app.url + "/sign-out")
        page = self.browser.press(page, answer)
        assert page.status_code == 200, page.text

    def is_signed_in(self, app: RelyingApp) -> bool:
        """Whether the app's session of this browser is alive."""
        status = self.browser.open(app.url + "/me").status_code
        assert status in (200, 401)
        return status == 200

    def is_signed_out(self, app: RelyingApp) -> bool:
        """Wait until the app's session is dead; fails if it stays alive."""
        wait_for(lambda: not self.is_signed_in(app), f"{self.login} is signed out of {app.name}")
        return True

    def _key(self, app: RelyingApp) -> str:
        return self.browser.cookie(app.cookie)
