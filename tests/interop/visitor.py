"""A person in front of a browser: signs in to apps, and out at the provider."""

from typing import Any

import httpx

from tests.interop.browser import Browser
from tests.interop.relying_app import RelyingApp


class Visitor:
    """Signs in as ``login``, which becomes the ``sub``."""

    def __init__(self, browser: Browser, login: str) -> None:
        self.browser = browser
        self.login = login

    def sign_in(self, app: RelyingApp) -> dict[str, Any]:
        """Sign in at the provider for the app; returns what the app remembers."""
        page = self.browser.open(app.url + "/login")
        page = self.browser.press(page, "Sign-in", login=self.login, password="any")
        return self._consent(page, app)

    def sign_in_without_password(self, app: RelyingApp) -> dict[str, Any]:
        """Sign in to another app within the session that the provider already has."""
        return self._consent(self.browser.open(app.url + "/login"), app)

    def _consent(self, page: httpx.Response, app: RelyingApp) -> dict[str, Any]:
        self.browser.press(page, "Continue")
        assert self.is_signed_in(app)
        session = app.sessions[self._key(app)]
        assert session["sub"] == self.login
        return session

    def refresh(self, app: RelyingApp) -> int:
        """Have the app refresh its tokens; returns the ``iat`` of the new ID token."""
        assert self.browser.open(app.url + "/refresh").status_code == 204
        iat: int = app.tokens[self._key(app)].claims["iat"]
        return iat

    def end_session(self, app: RelyingApp, answer: str = "Yes, sign me out") -> None:
        """Follow the app's link to the provider and answer whether the session there ends."""
        page = self.browser.open(app.url + "/sign-out")
        page = self.browser.press(page, answer)
        assert page.status_code == 200, page.text

    def is_signed_in(self, app: RelyingApp) -> bool:
        """Whether the app's session of this browser is alive."""
        status = self.browser.open(app.url + "/me").status_code
        assert status in (200, 401)
        return status == 200

    def _key(self, app: RelyingApp) -> str:
        return self.browser.cookie(app.cookie)
