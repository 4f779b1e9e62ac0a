"""The tokens that the load sends: logouts of each kind, repetitions, and a few to be refused."""

import time
from dataclasses import dataclass
from random import Random
from typing import Any

from backchannel_logout import Session
from tests.support.providers.provider import ABSENT, Provider, private_key

# Earlier than every logout of a test, so only a marker of another session could end it.
_LONG_AGO = 100

_SHARES = {"session": 35, "both": 25, "user": 15, "later": 5, "repeated": 12, "refused": 8}


@dataclass(frozen=True, slots=True)
class SentToken:
    """A token and its claims."""

    token: str
    iss: str
    jti: str
    iat: int
    sid: str | None
    sub: str | None
    flaw: str = ""
    """The reason for which it must be refused; empty for a valid token."""

    @property
    def names(self) -> tuple[str | None, str | None]:
        """``sid`` and ``sub`` as the event must name them."""
        return self.sid, self.sub

    @property
    def ended(self) -> Session:
        """The newest session that this token ends."""
        sub = self.sub if self.sid is None else None
        return Session(iss=self.iss, sid=self.sid, sub=sub, login_at=self.iat)

    @property
    def neighbour(self) -> Session:
        """An older session that survives: the user's other one, or another user's."""
        if self.sid is None:
            return Session(self.iss, self.iat - _LONG_AGO, sid=None, sub=f"not-{self.sub}")
        return Session(self.iss, self.iat - _LONG_AGO, sid=f"not-{self.sid}", sub=self.sub)


class Mint:
    """Draws tokens of ``provider`` from ``random``; repeats a user only on purpose."""

    def __init__(self, provider: Provider, random: Random, name: str = "") -> None:
        self._provider = provider
        self._random = random
        self._name = name
        self._count = 0
        self._recent: list[SentToken] = []

    def draw(self) -> SentToken:
        """The next token of a well-behaved provider."""
        kind = self._random.choices([*_SHARES], [*_SHARES.values()])[0]
        earlier = self._random.choice(self._recent) if self._recent else None
        if kind == "repeated" and earlier is not None:
            return earlier
        if kind == "refused":
            return self._flawed()
        iat = int(time.time()) - self._random.randrange(20)
        sid, sub = self._names()
        if kind == "user":
            sid = None
        elif kind == "session":
            sub = None
        elif kind == "later" and earlier is not None and earlier.sid is not None:
            # The same session again with another time: the cutoff must never decrease.
            sid, sub = earlier.sid, earlier.sub
        sent = self._sign(iat=iat, sid=sid, sub=sub)
        self._recent = [*self._recent[-40:], sent]
        return sent

    def unknown_key(self) -> SentToken:
        """A token with a key id that no provider has; it needs no real signature."""
        sid, sub = self._names()
        header = {"kid": f"flood-{self._random.getrandbits(64):x}"}
        key = private_key("ES256", which=1)
        return self._sign(
            iat=int(time.time()), sid=sid, sub=sub, flaw="key_unknown", header=header, key=key
        )

    def _names(self) -> tuple[str | None, str | None]:
        self._count += 1
        own = f"{self._name}{self._count}-{self._random.getrandbits(32):x}"
        return f"sid-{own}", f"sub-{own}"

    def _flawed(self) -> SentToken:
        now = int(time.time())
        flaw, changes = self._random.choice(
            [
                ("aud_unknown", {"aud": "somebody-else"}),
                ("nonce", {"nonce": "n"}),
                ("iss_unknown", {"iss": "https://elsewhere.example"}),
                ("events_member", {"events": {}}),
                ("signature", {"key": private_key("ES256", which=1)}),
                ("exp_past", {"exp": now - 3600}),
            ]
        )
        sid, sub = self._names()
        return self._sign(iat=now, sid=sid, sub=sub, flaw=flaw, **changes)

    def _sign(
        self, *, iat: int, sid: str | None, sub: str | None, flaw: str = "", **changes: Any
    ) -> SentToken:
        jti = f"{self._random.getrandbits(96):x}"
        named = {"sid": sid or ABSENT, "sub": sub or ABSENT}
        token = self._provider.token(iat=iat, jti=jti, **named, **changes)
        return SentToken(token, self._provider.issuer, jti, iat, sid, sub, flaw)
