"""Finds the event by which an app learns of a termination: evidence from Redis alone."""

import math
from collections.abc import Sequence
from functools import partial

from app.history.app_reader import AppReader, required
from app.history.records import DeliveredEvent
from app.history.streams import oldest_first
from app.sessions.termination.termination import AppDelivery, Termination
from backchannel_logout import AppKeys, Event, EventKind, Session, marker_keys
from backchannel_logout.contract.event import stream_id

# How far the provider's clock may be behind ours. An event with an earlier cutoff is about an
# earlier logout; sessions that began since are alive. `Termination.used_at`, by the provider's own
# clock, decides more precisely.
_CLOCK_SKEW = 5

# Events of one app since the beginning: several minutes of a logout storm.
MAX_ENTRIES = 200_000


async def newest_event_id(reader: AppReader, app: str) -> str:
    """The id of the app's newest event. Raises `Unreadable`."""
    key = AppKeys(app).events
    (response,) = await reader.query_app(app, [("XREVRANGE", key, "+", "-", "COUNT", 1)])
    entries = required(response)
    return entries[0][0].decode() if entries else "0-0"


async def find_delivery(
    reader: AppReader,
    app: str,
    termination: Termination,
    names: Sequence[str],
    leeway: float,
) -> AppDelivery | None:
    """The app's event for this termination; None when there is none yet. Raises `Unreadable`.

    ``names`` and ``leeway`` are the issuer's. The stream is read only when a marker exists: most
    polls find none, and cost three keys.
    """
    keys = AppKeys(app)
    sid = termination.session or None
    sessions = [Session(name, 0, sid=sid, sub=termination.user) for name in names]
    wanted = [key for session in sessions for key in marker_keys(keys, session)]
    markers = await reader.query_app(app, [("GET", key) for key in wanted])
    if not any(required(marker) for marker in markers):
        return None

    # A marker can predate the termination, from a session with the same id. The event decides.
    since = termination.positions.get(app, "0-0")
    ask = partial(reader.query_app, app)
    async for page in oldest_first(ask, keys.events, since=since, limit=MAX_ENTRIES):
        for entry_id, fields in page:
            event = DeliveredEvent.read(app, entry_id, fields).event
            if event is None or stream_id(entry_id) <= stream_id(since):
                continue
            if _matches(event, termination, names, leeway):
                return AppDelivery(
                    event=entry_id, source=event.source, cutoff=event.cutoff, at=event.received_at
                )
    return None


def _matches(event: Event, termination: Termination, names: Sequence[str], leeway: float) -> bool:
    """Whether the event ends what is to end."""
    of_session = (
        event.kind is EventKind.SESSION
        and not termination.of_user
        and event.sid == termination.session
    )
    of_user = event.kind is EventKind.USER and event.sub == termination.user
    if event.iss not in names or not (of_session or of_user or event.kind is EventKind.ALL):
        return False
    if termination.of_user:
        # It must cover everything that the provider's call ended.
        return event.cutoff >= math.floor(termination.asked_at or termination.began_at)
    # Our own revocation of the user covers logins up to the provider's call. This session may have
    # opened app sessions after that, until it was gone.
    if event.kind is EventKind.USER and event.source == termination.provider:
        return False
    # A cutoff before the last use is about an earlier session with the same id.
    if termination.used_at is not None and event.cutoff < math.floor(termination.used_at):
        return False
    # A slightly earlier token of the session itself counts too, within the clocks' difference.
    return event.cutoff >= termination.began_at - (leeway if of_session else _CLOCK_SKEW) - 1
