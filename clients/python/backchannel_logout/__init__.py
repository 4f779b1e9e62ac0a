"""What a relying app uses to learn that a session was ended by its OpenID provider.

    keys        where in Redis a revocation stands            (pure)
    session     what an app remembers of a login              (pure)
    decision    session + markers -> alive, revoked, expired  (pure)
    event       one revocation, as stream entry and as JSON   (pure)

    guard       tells whether a session is dead; for threads, and for asyncio
    question    ... by asking Redis: what to ask, and what an answer means
    near        ... or without asking: answers that are kept, and the tail that keeps them true
    asgi, django, flask, wsgi
                end what is dead, in an app's own framework (gate: what they share)
    listening   is told of each logout, for what has no next request
    gap         what a listener says where events may be missing    (pure)

    readers     who reads, and how far, for everybody to see        (pure)
    receipts    what a listener has handled, for everybody to see   (pure)
    proof       readers + receipts -> has this app acted on it?     (pure)

    connection  a URL, or a client that the app has, as a connection that gives up in time
                (sentinels: which server is the primary when they do not agree)

The receiver imports the pure parts from here, so that the contract is written once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from backchannel_logout.checker import GuardMisconfigured, RevocationUnknown
from backchannel_logout.contract.decision import Verdict, decide, marker_keys
from backchannel_logout.contract.event import Event, EventKind, MalformedEvent, UnknownEvent
from backchannel_logout.contract.gap import Gap, GapReason
from backchannel_logout.contract.keys import AppKeys, digest
from backchannel_logout.contract.proof import AppStatus, Proof, prove
from backchannel_logout.contract.readers import Reader, ReaderKind
from backchannel_logout.contract.receipts import Outcome, Receipt
from backchannel_logout.contract.session import Session, SessionNotIdentified, remember

if TYPE_CHECKING:
    from backchannel_logout.guard import AsyncSessionGuard, SessionGuard
    from backchannel_logout.listening.listener import AsyncListener
    from backchannel_logout.listening.threads import Listener

__all__ = [
    "AppKeys",
    "AppStatus",
    "AsyncListener",
    "AsyncSessionGuard",
    "Event",
    "EventKind",
    "Gap",
    "GapReason",
    "GuardMisconfigured",
    "Listener",
    "MalformedEvent",
    "Outcome",
    "Proof",
    "Reader",
    "ReaderKind",
    "Receipt",
    "RevocationUnknown",
    "Session",
    "SessionGuard",
    "SessionNotIdentified",
    "UnknownEvent",
    "Verdict",
    "decide",
    "digest",
    "marker_keys",
    "prove",
    "remember",
]

# What many processes never use, such as the receiver: imported when first asked for (PEP 562).
_LATER = {
    "AsyncListener": ".listening.listener",
    "AsyncSessionGuard": ".guard",
    "Listener": ".listening.threads",
    "SessionGuard": ".guard",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_LATER[name], __name__), name)
    return found
