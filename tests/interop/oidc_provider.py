"""npm's oidc-provider as a process; its line protocol is at the head of oidc_provider.mjs."""

import json
import queue
import subprocess
import threading
from pathlib import Path
from typing import Any, ClassVar, Self

import httpx

from tests.interop import node
from tests.interop.browser import Browser

HERE = Path(__file__).parent


def missing() -> str | None:
    """Why the provider cannot be started here; None if it can."""
    return node.missing(HERE, "oidc-provider")


class OidcProvider:
    """A running provider. Any login name signs in, with any password, and becomes the ``sub``."""

    # The provider issues refresh tokens only for offline access, which needs consent.
    ask: ClassVar = {"scope": "openid offline_access", "prompt": "consent"}

    def __init__(self, directory: Path) -> None:
        self._log_path = directory / "oidc-provider.log"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                ["node", str(HERE / "oidc_provider.mjs")],  # noqa: S607  from the PATH, like npm
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._deliveries: dict[str, queue.Queue[dict[str, Any]]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.issuer: str = self._next(self._answers)["issuer"]

    def register(
        self,
        *,
        client_id: str,
        redirect_uri: str,
        backchannel_logout_uri: str,
        alg: str,
        with_sid: bool,
    ) -> None:
        """Register a client. Without ``with_sid``, its tokens have no ``sid``."""
        self._deliveries[client_id] = queue.Queue()
        metadata = {
            "client_id": client_id,
            "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"],
            "redirect_uris": [redirect_uri],
            "id_token_signed_response_alg": alg,
            "backchannel_logout_uri": backchannel_logout_uri,
            "backchannel_logout_session_required": with_sid,
        }
        assert self._tell({"register": metadata}) == {"registered": client_id}

    def sign_in(self, browser: Browser, page: httpx.Response, login: str) -> None:
        """The login form, then the consent."""
        page = browser.press(page, "Sign-in", login=login, password="any")
        self.continue_session(browser, page)

    def continue_session(self, browser: Browser, page: httpx.Response) -> None:
        """The consent alone."""
        browser.press(page, "Continue")

    def set_clock(self, ahead: int) -> None:
        """Set the provider's clock this many seconds ahead."""
        assert self._tell({"clock": ahead}) == {"clock": ahead}

    def delivery_fault(self, client_id: str) -> str | None:
        """The provider's report of the next delivery to this client; ``None``: success."""
        fault: str | None = self._next(self._deliveries[client_id])["error"]
        return fault

    def _tell(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._next(self._answers)

    def _next(self, reports: "queue.Queue[dict[str, Any]]") -> dict[str, Any]:
        try:
            return reports.get(timeout=10)
        except queue.Empty:
            raise AssertionError(
                f"nothing from the provider in 10 s:\n{self._log_path.read_text()}"
            ) from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            report = json.loads(line)
            reports = self._deliveries[report["client_id"]] if "error" in report else self._answers
            reports.put(report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close its stdin, which ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join()
        self._process.stdout.close()
