"""Lets a relying app learn that its OpenID provider has ended a session.

    guard       tells whether a session is dead, for threads and for asyncio
    checker     what a guard queries, and what the replies mean
    near        answers kept in the process, and the tail that keeps them true
    asgi, django, flask, wsgi
                middlewares, which end dead sessions (gate: their common rules)
    listening   delivers each logout, for sessions without a next request
    account     users' own sessions, as routes of the app
    contract    what every client and the receiver agree on    (pure)
    redis       the connection to Redis

The receiver imports `contract` and `redis`, so that each is written once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from backchannel_logout.contract.decision import Verdict, decide, marker_keys
from backchannel_logout.contract.event import Event, MalformedEvent, UnknownEvent
from backchannel_logout.contract.gap import Gap, GapReason
from backchannel_logout.contract.keys import AppKeys, digest
from backchannel_logout.contract.kinds import EventKind
from backchannel_logout.contract.proof import AppStatus, Proof, prove
from backchannel_logout.contract.readers import Reader, ReaderKind
from backchannel_logout.contract.receipts import Outcome, Receipt
from backchannel_logout.contract.session import Session, SessionNotIdentified, remember
from backchannel_logout.guard_errors import GuardMisconfigured, RevocationUnknown

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

# Imported on first use (PEP 562): many processes, such as the receiver, never need these.
_LAZY = {
    "AsyncListener": ".listening.listener",
    "AsyncSessionGuard": ".guard",
    "Listener": ".listening.threads",
    "SessionGuard": ".guard",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LAZY[name], __name__), name)
    return value
