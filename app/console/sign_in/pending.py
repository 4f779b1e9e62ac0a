"""Sign-ins in progress at the provider, each in an encrypted cookie of its browser.

Nothing is stored here, so no number of sign-ins displaces another one. The key is generated at the
start of the process: after a restart, or at another replica, the cookie is unknown and the person
starts the sign-in again. The console's sessions end with their process as well.
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
    """What the provider's answer is checked against, and the page after the sign-in. ``began`` is
    in epoch seconds."""

    began: float
    state: str
    nonce: str
    verifier: str
    page: str


class PendingSignIns:
    """``clock`` returns epoch seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._fernet = Fernet(Fernet.generate_key())

    def begin(self, page: str) -> tuple[PendingSignIn, str]:
        """A new sign-in, and the header that sets its cookie."""
        pending = PendingSignIn(
            began=self._clock(),
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            page=page,
        )
        sealed = self._fernet.encrypt(json.dumps(asdict(pending)).encode()).decode("ascii")
        # Lax: unlike the session's cookie, it must be sent after the provider's redirect.
        header = set_cookie(sealed, name=PENDING_COOKIE, same_site="Lax", life=PENDING_SECONDS)
        return pending, header

    def find(self, headers: Headers, state: str) -> PendingSignIn | None:
        """This browser's sign-in, if ``state`` of the provider's answer matches."""
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


def forget_pending() -> str:
    """The header that removes the cookie."""
    return set_cookie("", name=PENDING_COOKIE, same_site="Lax", life=0)
