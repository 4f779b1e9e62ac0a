"""Sign-ins under way at the provider, each in an encrypted cookie of its browser.

Nothing is stored here, so no number of sign-ins begun by others displaces one. The key is made at
the start of the process: a restart, or another replica, does not know the cookie, and the person
begins the sign-in again, as all sessions of the console end with their process, too.
"""

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass

from cryptography.fernet import Fernet, InvalidToken
from starlette.datastructures import Headers

from app.console.sign_in.operator_sessions import cookie, set_cookie

PENDING_COOKIE = "__Host-bcl_sign_in"

PENDING_SECONDS = 600
"""Time for a password and a second factor."""


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """What the provider's answer is compared with, and where the person wants to go. ``began`` is
    epoch seconds."""

    began: float
    state: str
    nonce: str
    verifier: str
    page: str


class PendingSignIns:
    """``clock`` is epoch seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._fernet = Fernet(Fernet.generate_key())

    def begin(self, page: str) -> tuple[PendingSignIn, str]:
        """A new one, and the header that sets its cookie."""
        pending = PendingSignIn(
            began=self._clock(),
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            page=page,
        )
        sealed = self._fernet.encrypt(json.dumps(asdict(pending)).encode()).decode("ascii")
        # Lax: unlike the session's cookie it has to come along from the provider's page.
        header = set_cookie(sealed, name=PENDING_COOKIE, same_site="Lax", life=PENDING_SECONDS)
        return pending, header

    def find(self, headers: Headers, state: str) -> PendingSignIn | None:
        """That of this browser, if the provider's answer has its ``state``."""
        sealed = cookie(headers, PENDING_COOKIE)
        if sealed is None:
            return None
        try:
            pending = PendingSignIn(**json.loads(self._fernet.decrypt(sealed.encode())))
        except InvalidToken:
            return None
        same = secrets.compare_digest(pending.state.encode(), state.encode("utf-8", "replace"))
        return pending if same else None

    def is_late(self, pending: PendingSignIn) -> bool:
        return pending.began + PENDING_SECONDS < self._clock()

    @staticmethod
    def forget() -> str:
        """The header that removes the cookie."""
        return set_cookie("", name=PENDING_COOKIE, same_site="Lax", life=0)
