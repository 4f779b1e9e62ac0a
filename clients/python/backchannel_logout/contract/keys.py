"""The names of one relying app's Redis keys, version 1 of the contract.

Every key of an app contains ``{app}``, so that Redis Cluster keeps them in one slot and one script
can write them atomically.
"""

import binascii
import hashlib
import re

from backchannel_logout.contract.kinds import MARKER_KINDS, EventKind

VERSION = 1
"""The contract's version: ``v`` in each event and in ``meta``, ``v1`` in each key."""

# At most 63 characters, safe in key names, ACL patterns and metric labels alike.
APP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")

# 128 bits: two of a billion billion users share a key with a chance below one in a million.
_DIGEST_BYTES = 16


def digest(first: str, second: str) -> str:
    """``h(first, second)`` of the contract: 22 characters of base64url.

    The first 16 bytes of SHA-256 over both in UTF-8, joined by one newline, so that a key name has
    a fixed length and contains no personal data.
    """
    raw = hashlib.sha256(f"{first}\n{second}".encode()).digest()[:_DIGEST_BYTES]
    # As base64.urlsafe_b64encode, in half its time.
    return binascii.b2a_base64(raw).translate(_TO_URLSAFE, b"=\n").decode("ascii")


_TO_URLSAFE = bytes.maketrans(b"+/", b"-_")


class AppKeys:
    """The Redis keys of the relying app ``app``.

    Raises ``ValueError`` when ``app`` is not a name of the contract
    (``[a-z0-9][a-z0-9_-]{0,62}``).
    """

    __slots__ = (
        "_markers", "app", "dead_letters", "events", "feed", "meta", "prefix", "readers",
        "receipts",
    )  # fmt: skip

    def __init__(self, app: str) -> None:
        if not APP_NAME.fullmatch(app):
            raise ValueError(f"not a relying app's name: {app!r} ({APP_NAME.pattern})")
        self.app = app
        self.prefix = f"bcl:v{VERSION}:{{{app}}}:"
        self._markers = {row.kind: f"{self.prefix}{row.key_part}:" for row in MARKER_KINDS}
        self.events = self.prefix + "events"
        self.feed = self.prefix + "feed"
        self.meta = self.prefix + "meta"
        # The relying app writes the keys below `app:`.
        self.readers = self.prefix + "app:readers"
        self.receipts = self.prefix + "app:receipts"
        self.dead_letters = self.prefix + "app:dead-letters"

    def position(self, listener: str) -> str:
        """How far the listener of this name has read, for the next process of that name."""
        return f"{self.prefix}app:position:{listener}"

    def gaps(self, listener: str) -> str:
        """Gaps that replicas of this listener have found and that the app has not handled yet."""
        return f"{self.prefix}app:gaps:{listener}"

    def marker(self, kind: EventKind, iss: str, value: str) -> str:
        """The marker of one kind; ``value`` is that of the kind's claim, empty without one."""
        return self._markers[kind] + digest(iss, value)

    def sid(self, iss: str, sid: str) -> str:
        """The marker of one session of an issuer."""
        return self.marker(EventKind.SESSION, iss, sid)

    def sub(self, iss: str, sub: str) -> str:
        """The marker of every session of one user of an issuer."""
        return self.marker(EventKind.USER, iss, sub)

    def all(self, iss: str) -> str:
        """The marker of every session of an issuer."""
        return self.marker(EventKind.ALL, iss, "")

    def jti(self, iss: str, jti: str, sid: str | None, sub: str | None) -> str:
        """Remembers one logout token, so that its repetition changes nothing.

        ``sid`` and ``sub`` are part of it: where a provider's short ``jti`` collides, the logout of
        another user is still another logout.
        """
        joined = "\n".join((jti, sid or "", sub or ""))
        return f"{self.prefix}jti:{digest(iss, joined)}"
