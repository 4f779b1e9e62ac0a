"""What a relying app uses to learn that a session was ended by its OpenID provider.

    keys        where in Redis a revocation stands            (pure)
    session     what an app remembers of a login              (pure)
    decision    session + markers -> alive, revoked, expired  (pure)
    event       one revocation, as stream entry and as JSON   (pure)
    question    what to ask, and what an answer means         (pure)
    guard       asks Redis, once for each check; sync and async

The receiver imports the pure parts from here, so that the contract is written once.
"""

from .decision import Verdict, decide, marker_keys
from .event import Event, EventKind, MalformedEvent, UnknownEvent
from .guard import AsyncSessionGuard, SessionGuard
from .keys import AppKeys, digest
from .question import GuardMisconfigured, RevocationUnknown
from .session import Session, SessionNotIdentified, remember

__all__ = [
    "AppKeys",
    "AsyncSessionGuard",
    "Event",
    "EventKind",
    "GuardMisconfigured",
    "MalformedEvent",
    "RevocationUnknown",
    "Session",
    "SessionGuard",
    "SessionNotIdentified",
    "UnknownEvent",
    "Verdict",
    "decide",
    "digest",
    "marker_keys",
    "remember",
]
