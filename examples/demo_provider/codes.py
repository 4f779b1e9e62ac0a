"""Authorization codes: short-lived, for one use, bound to client, redirect URI and session."""

import base64
import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

# RFC 6749, section 4.1.2, allows ten minutes; a redirect takes a second.
CODE_SECONDS = 60.0

# RFC 7636: section 4.1 for the verifier; a SHA-256 in base64url has 43 characters.
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The authorized request. ``nonce`` goes into the ID token unchanged."""

    client_id: str
    redirect_uri: str
    code_challenge: str
    session_id: str
    scopes: frozenset[str]
    nonce: str | None


class Codes:
    """The codes that were issued and not yet used."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._grants: dict[str, tuple[float, Grant]] = {}

    def issue(self, grant: Grant) -> str:
        now = self._clock()
        self._grants = {code: entry for code, entry in self._grants.items() if entry[0] > now}
        code = secrets.token_urlsafe(32)
        self._grants[code] = (now + CODE_SECONDS, grant)
        return code

    def redeem(
        self, code: str, *, client_id: str, redirect_uri: str, code_verifier: str
    ) -> Grant | None:
        """The grant, if everything matches. The code is used up in any case."""
        until, grant = self._grants.pop(code, (0.0, None))
        if grant is None or until <= self._clock():
            return None
        matches = (
            grant.client_id == client_id
            and grant.redirect_uri == redirect_uri
            and _VERIFIER.fullmatch(code_verifier) is not None
            and secrets.compare_digest(s256(code_verifier), grant.code_challenge)
        )
        return grant if matches else None


def s256(code_verifier: str) -> str:
    """The ``code_challenge`` of a verifier (RFC 7636, section 4.2)."""
    raw = hashlib.sha256(code_verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
