"""npm's better-auth as a process; its line protocol is at the head of better_auth.mjs."""

import json
import subprocess
from pathlib import Path
from typing import Any, ClassVar, Self

import httpx

from tests.interop import node
from tests.interop.browser import Browser

HERE = Path(__file__).parent / "better_auth"


def missing() -> str | None:
    """Why the provider cannot be started here; None if it can."""
    return node.missing(HERE, "better-auth")


class BetterAuth:
    """A running provider for one test. Every login name exists."""

    # It gives refresh tokens for offline access only.
    ask: ClassVar = {"scope": "openid offline_access"}

    def __init__(self, directory: Path) -> None:
        self._log_path = directory / "better-auth.log"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                ["node", str(HERE / "better_auth.mjs")],  # noqa: S607  from the PATH, like npm
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self.issuer: str = self._next()["issuer"]

    def register(
        self, *, client_id: str, redirect_uri: str, backchannel_logout_uri: str, alg: str
    ) -> None:
        """Register a public client. Every token is signed with EdDSA."""
        assert alg == "EdDSA"
        row = {
            "clientId": client_id,
            "redirectUris": [redirect_uri],
            "scopes": ["openid", "offline_access"],
            "grantTypes": ["authorization_code", "refresh_token"],
            "responseTypes": ["code"],
            "tokenEndpointAuthMethod": "none",
            "skipConsent": True,
            "backchannelLogoutUri": backchannel_logout_uri,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"register": row}) + "\n")
        self._process.stdin.flush()
        assert self._next() == {"registered": client_id}

    def sign_in(self, browser: Browser, page: httpx.Response, login: str) -> None:
        """Sign in or sign up as its JavaScript client does, and continue the authorization."""
        who = {"email": f"{login}@example.org", "password": f"password of {login}"}
        answer = self.call(browser, "sign-in/email", **who)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            answer = self.call(browser, "sign-up/email", name=login, **who)
        assert answer.status_code == httpx.codes.OK, answer.text
        browser.open(str(page.history[-1].url))

    def continue_session(self, browser: Browser, page: httpx.Response) -> None:
        """Nothing to do: with a session, there is no prompt."""

    def call(self, browser: Browser, path: str, **body: Any) -> httpx.Response:
        """POST to the API with this browser's session."""
        return browser.post_json(f"{self.issuer}/{path}", body)

    def session_of(self, browser: Browser) -> str:
        """The token by which `revoke-session` identifies this browser's session."""
        session: dict[str, dict[str, str]] = browser.open(f"{self.issuer}/get-session").json()
        return session["session"]["token"]

    def _next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the provider ended:\n{self._log_path.read_text()}"
        report: dict[str, Any] = json.loads(line)
        return report

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close its stdin, which ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
