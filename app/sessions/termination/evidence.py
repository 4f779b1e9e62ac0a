"""Whether an app has been told of an ending: its marker and its event in Redis."""

import math
from collections.abc import Sequence
from typing import Any

from app.history.app_reader import AppReader, required
from app.history.streams import Entry, oldest_first
from app.sessions.termination.record import AppDelivery, Termination
from backchannel_logout import AppKeys, Event, EventKind, MalformedEvent, UnknownEvent
from backchannel_logout.contract.event import stream_id

# How far the provider's clock may be behind ours: a token that says the user was signed out before
# that is about an earlier logout, and sessions that began since are not dead. When the session was
# used last, by the provider's own clock, says it better.
_CLOCK_SKEW = 5

# Events of one app between the beginning and now: a storm of some minutes.
MAX_ENTRIES = 200_000


async def newest_event_id(reading: AppReader, app: str) -> str:
    """The id of the newest event of the app. Raises `Unreadable`."""
    key = AppKeys(app).events
    (answer,) = await reading.of_app(app, [("XREVRANGE", key, "+", "-", "COUNT", 1)])
    found = required(answer)
    return found[0][0].decode() if found else "0-0"


async def find_delivery(
    reading: AppReader, app: str, ending: Termination, names: Sequence[str], leeway: float
) -> AppDelivery | None:
    """How the app was told since the ending began; None: it was not. Raises `Unreadable`.

    ``names`` and ``leeway`` are those of the issuer. The stream is walked through only where there
    is a marker: most of the time there is none yet, and that is three keys.
    """
    keys = AppKeys(app)
    wanted = [] if ending.of_user else [keys.sid(name, ending.session) for name in names]
    wanted += [keys.sub(name, ending.user) for name in names]
    wanted += [keys.all(name) for name in names]
    markers = await reading.of_app(app, [("GET", key) for key in wanted])
    if not any(required(marker) for marker in markers):
        return None

    async def ask(commands: Any) -> list[Any]:
        return await reading.of_app(app, commands)

    # A marker may be older than the ending: of a session that had the same id. The event tells.
    since = ending.positions.get(app, "0-0")
    async for page in oldest_first(ask, keys.events, since=since, most=MAX_ENTRIES):
        for entry_id, fields in page:
            if stream_id(entry_id) > stream_id(since) and (
                found := _matching_delivery((entry_id, fields), ending, names, leeway)
            ):
                return found
    return None


def _matching_delivery(
    entry: Entry, ending: Termination, names: Sequence[str], leeway: float
) -> AppDelivery | None:
    """The entry, if it ends this session."""
    entry_id, fields = entry
    try:
        event = Event.from_fields(fields, entry_id)  # type: ignore[arg-type]
    except (MalformedEvent, UnknownEvent):
        return None
    of_session = (
        event.kind is EventKind.SESSION and not ending.of_user and event.sid == ending.session
    )
    of_user = event.kind is EventKind.USER and event.sub == ending.user
    if event.iss not in names or not (of_session or of_user or event.kind is EventKind.ALL):
        return None
    if ending.of_user:
        # Nothing less than what the provider's call ended.
        enough = event.cutoff >= math.floor(ending.asked_at or ending.began_at)
        return _as_delivery(event, entry_id) if enough else None
    # Ours, of all the user's sessions, ends what logged in until the provider was asked. This
    # session may have opened an app's later, until it was gone.
    if event.kind is EventKind.USER and event.source == ending.provider:
        return None
    # What ends less than all of the session is about one before it, under the same id.
    if ending.used_at is not None and event.cutoff < math.floor(ending.used_at):
        return None
    # Of the session itself an earlier token is as good, as far as the clocks may differ.
    if event.cutoff < ending.began_at - (leeway if of_session else _CLOCK_SKEW) - 1:
        return None
    return _as_delivery(event, entry_id)


def _as_delivery(event: Event, entry_id: str) -> AppDelivery:
    return AppDelivery(
        event=entry_id, source=event.source, cutoff=event.cutoff, at=event.received_at
    )
