"""Reads back what Redis holds: is this session dead, since when, by which token, who has acted.

    history      `History`: every question, in one place
    facts        what the answers are made of: plain records                (pure)
    reading      one round trip to the server of an app, or of a key
    streams      a bounded walk back, or on, through a stream
    story        one session or user in one app: markers, events
    conclusion   what follows from all of a session's story: one verdict     (pure)
    search       tokens about an id that were not applied; who knows an id
    proofs       what an app has done about one event
    overview     an app at a glance: readers, groups, lag, dead letters
    sid_mismatch sessions without the sid that their provider's logout tokens name
    status       the service and its apps as rows with a verdict             (pure)
    newest       the newest entries that match a filter, a page of them
    notes        entries of the refusals stream and of the audit stream
    filters      which of them somebody wants to see                      (pure)
    feed         what comes from now on, of all apps and the refusals
    shared       one answer for all who ask the same at the same time
    live         the one reader behind all feeds
    positions    what is new in many streams, in few round trips
    cursor       how far a feed has come, as one line                     (pure)

Writes nothing. What it reads, the receiver's ACL user must be allowed (docs/contract.md).
"""

from app.history.audit_stream import AuditEntry, RefusalEntry
from app.history.cursor import REFUSALS, Cursor
from app.history.facts import (
    AppHistory,
    AppOverview,
    Conclusion,
    DeadLetter,
    DeliveredEvent,
    Group,
    Marker,
    RevocationQuery,
    Search,
    SessionHistory,
    State,
    as_json,
)
from app.history.feed import Feed, Missed
from app.history.filters import EVERYTHING, Filter
from app.history.history import History
from app.history.newest import Page
from app.history.reading import Unreadable

__all__ = [
    "EVERYTHING",
    "REFUSALS",
    "AppHistory",
    "AppOverview",
    "AuditEntry",
    "Conclusion",
    "Cursor",
    "DeadLetter",
    "DeliveredEvent",
    "Feed",
    "Filter",
    "Group",
    "History",
    "Marker",
    "Missed",
    "Page",
    "RefusalEntry",
    "RevocationQuery",
    "Search",
    "SessionHistory",
    "State",
    "Unreadable",
    "as_json",
]
