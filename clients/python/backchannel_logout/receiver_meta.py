"""What the receiver wrote about an app: its longest session, and the issuers it is served for."""

import json
import time
from collections.abc import Sequence

from backchannel_logout.contract.decision import Value, whole_number
from backchannel_logout.contract.keys import AppKeys
from backchannel_logout.contract.readers import MAX_ISSUERS
from backchannel_logout.contract.session import Session
from backchannel_logout.guard_errors import GuardMisconfigured, RevocationUnknown, unreadable_value
from backchannel_logout.redis.pipeline import Command

# How long the issuers and clients are used before they are read again. A check of another issuer
# reads them too.
NAMES_SECONDS = 60.0


class ReceiverMeta:
    """The hash ``meta``, as last read. ``own_age``: the guard's own `max_session_age`."""

    def __init__(self, keys: AppKeys, own_age: int | None) -> None:
        self._keys = keys
        self._own_age = own_age
        self.max_session_age = 0
        """In seconds."""
        self._issuers: frozenset[str] | None = None
        self._client_ids: frozenset[str] | None = None
        self._names_until = float("-inf")
        # The replies behind these values.
        self._age_reply: Value = None
        self._issuers_reply: Value = None
        self._client_ids_reply: Value = None
        self.commands: list[Command] = [
            # Not one HMGET: the ACL rules of earlier releases do not allow it.
            ("HGET", keys.meta, "max_session_age"),
            ("HGET", keys.meta, "issuers"),
            ("HGET", keys.meta, "client_ids"),
        ]

    @property
    def values(self) -> tuple[object, ...]:
        """The replies to `commands` that are valid now, to compare."""
        return self._age_reply, self._issuers_reply, self._client_ids_reply

    def is_due(self, sessions: Sequence[Session]) -> bool:
        """Whether to read the names with the next check: once a minute, and for an issuer or client
        that is not among them, since it may have been added."""
        return time.monotonic() >= self._names_until or not all(map(self._is_served, sessions))

    def read(self, max_session_age: Value, issuers: Value, client_ids: Value) -> None:
        """Store the replies to `commands`. Raises `RevocationUnknown` for an unreadable one."""
        self.read_age(max_session_age)
        # Receivers of earlier releases write no names: then every issuer and client is served.
        if issuers != self._issuers_reply:
            self._issuers = self._names(issuers, "issuers")
            self._issuers_reply = issuers
        if client_ids != self._client_ids_reply:
            self._client_ids = self._names(client_ids, "client_ids")
            self._client_ids_reply = client_ids
        self._names_until = time.monotonic() + NAMES_SECONDS

    def read_age(self, reply: Value) -> None:
        """Store the reply to the first of `commands`."""
        if reply is None:
            raise GuardMisconfigured(
                f"no receiver has written {self._keys.meta}: "
                "is this the receiver's Redis, and does it serve this app?"
            )
        if reply == self._age_reply:  # almost always; only valid replies are stored
            return
        try:
            age = whole_number(reply)
        except ValueError:
            unreadable_value()
        if self._own_age is not None and self._own_age > age:
            raise GuardMisconfigured(
                f"max_session_age is {self._own_age} s here and {age} s in the receiver's "
                "settings: markers would expire before the sessions that they end"
            )
        self.max_session_age = age if self._own_age is None else self._own_age
        self._age_reply = reply

    def _names(self, value: Value, field: str) -> frozenset[str] | None:
        if value is None:
            return None
        try:
            names = json.loads(value)
        except (ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RevocationUnknown(f"{self._keys.meta} holds {field} that are not a list of names")
        return frozenset(names)

    def check_served(self, sessions: Sequence[Session]) -> None:
        """Raise `GuardMisconfigured` for a session that no logout will ever reach: it must not
        count as alive."""
        for session in sessions:
            if self._is_served(session):
                continue
            name, names, what = session.iss, self._issuers, "issuer"
            if names is None or session.iss in names:
                name, names, what = str(session.client_id), self._client_ids, "client id"
            served = ", ".join(map(repr, sorted(names or ())[:MAX_ISSUERS]))
            app = self._keys.app
            raise GuardMisconfigured(
                f"the session is of the {what} {name!r}, and the receiver serves the app {app!r} "
                f"for: {served or 'nobody'}. Is {app!r} this app's own name, and do the receiver's "
                f"settings have this {what} with it?"
            )

    def _is_served(self, session: Session) -> bool:
        """Whether logouts of this issuer and client reach the app, as last read."""
        if self._issuers is not None and session.iss not in self._issuers:
            return False
        return (
            session.client_id is None
            or self._client_ids is None
            or session.client_id in self._client_ids
        )
