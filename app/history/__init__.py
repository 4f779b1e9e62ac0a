"""Reads back what Redis holds: whether a session is dead, since when, by which token, who acted.

    history          `History`: one method per query
    records          what the queries return: plain records                     (pure)
    record_json      records as JSON values                                      (pure)
    app_reader       one round trip to the server of an app, or of a key
    streams          bounded walks through a stream, in either direction
    app_history      one session or user in one app: markers and events
    conclusion       one verdict from a session's history in all apps           (pure)
    search           tokens about an id that were not applied; issuers that know an id
    proofs           what an app has done about one event
    app_overview     one app at a glance: readers, groups, lag, dead letters
    sid_mismatch     sessions without the sid that their provider's logout tokens name
    service_status   the service and its apps as rows with a verdict            (pure)
    newest_entries   a page of the newest entries that match a filter
    audit_stream     entries of the refusals stream and of the audit stream
    filters          which events and refusals match                            (pure)
    single_flight    one Redis read shared by all concurrent callers
    feed/            new events and refusals as they arrive

Writes nothing. The receiver's Redis user needs read access (docs/contract.md).
"""

from app.history.app_reader import Unreadable
from app.history.audit_stream import AuditEntry, RefusalEntry
from app.history.feed.cursor import REFUSALS, Cursor
from app.history.feed.event_feed import Feed, Missed
from app.history.filters import EVERYTHING, Filter
from app.history.history import History
from app.history.newest_entries import EntryPage
from app.history.record_json import as_json
from app.history.records import (
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
)

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
    "EntryPage",
    "Feed",
    "Filter",
    "Group",
    "History",
    "Marker",
    "Missed",
    "RefusalEntry",
    "RevocationQuery",
    "Search",
    "SessionHistory",
    "State",
    "Unreadable",
    "as_json",
]
