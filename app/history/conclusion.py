"""Draws one conclusion from a session's history, the same in console, `story` and API. Pure.

The worst finding wins: if a token of this session was refused or waits for keys, an older logout
that every app has acted on is not the whole truth.
"""

from collections.abc import Iterable, Sequence

from app.history.audit_stream import RefusalEntry
from app.history.records import (
    AppHistory,
    Conclusion,
    DeliveredEvent,
    RevocationQuery,
    SessionHistory,
    State,
)
from backchannel_logout import AppStatus

WAITS_SECONDS = 600.0
"""How long a receiver keeps a token that waits for keys; see `app.backchannel.parking`."""

SENTENCES = {
    Conclusion.UNREADABLE: "Unknown: not every app can be read from Redis.",
    Conclusion.REFUSED: "A token about it was refused, and nothing has ended it since.",
    Conclusion.WAITING: "A token about it waits for the provider's keys: it was answered 503, and"
    " no app has an event yet.",
    Conclusion.NOT_APPLIED: "A token about it was answered 503 because the provider's keys were"
    " unavailable, and it has not been applied since.",
    Conclusion.GIVEN_UP: "Not complete: a listener has given it up; it is among the dead letters.",
    Conclusion.NOT_YET: "Not complete: an active reader has not reached it yet.",
    Conclusion.NOT_READ: "Not complete: an app with the event has no active reader, or none that"
    " reports.",
    Conclusion.COMPLETE: "Complete: every app with an event has acted.",
    Conclusion.LATER_LOGIN: "Not ended: this login is later than every logout of it.",
    Conclusion.ENDED: "Ended by an event that was not found; what the apps did is unknown.",
    Conclusion.NOTHING_KNOWN: "Nothing is known of this id: no marker, event or refused token is"
    " about it. Ids must match exactly, including upper and lower case.",
}
"""A sentence for each conclusion."""

_BY_STATUS = {
    AppStatus.TORN_DOWN: Conclusion.COMPLETE,
    AppStatus.SEEN: Conclusion.COMPLETE,
    AppStatus.ASKS: Conclusion.COMPLETE,
    AppStatus.WAITING: Conclusion.NOT_YET,
    AppStatus.FAILED: Conclusion.GIVEN_UP,
    AppStatus.SILENT: Conclusion.NOT_READ,
    AppStatus.NOBODY: Conclusion.NOT_READ,
}

_UNFINISHED = (AppStatus.WAITING, AppStatus.SILENT, AppStatus.NOBODY)

_WORST_FIRST = list(Conclusion)


def conclude(
    query: RevocationQuery,
    apps: Sequence[AppHistory],
    refusals: Sequence[RefusalEntry] | None,
    *,
    now: float,
    elsewhere: Sequence[str] = (),
) -> SessionHistory:
    """Combine the apps' histories and draw the conclusion.

    ``refusals``: tokens about it that were not applied, newest first; None: unreadable.
    """
    unapplied = [refusal for refusal in refusals or () if _is_later(refusal, query, apps)]
    return SessionHistory(
        question=query,
        conclusion=_conclusion(query, apps, unapplied, now),
        apps=tuple(apps),
        refusals=tuple(unapplied),
        refusals_read=refusals is not None,
        elsewhere=tuple(elsewhere),
    )


def decisive_event(query: RevocationQuery, history: AppHistory) -> DeliveredEvent | None:
    """The event that decides the app's part: the one that ended it, else the newest about it."""
    about = [event for event in history.events if event.covers or query.sid is None]
    return history.cause or (about[0] if about else None)


def app_conclusion(query: RevocationQuery, history: AppHistory) -> Conclusion:
    """The conclusion for one app."""
    if history.fault is not None:
        return Conclusion.UNREADABLE
    if (delivered := decisive_event(query, history)) is None:
        return Conclusion.ENDED if history.markers else Conclusion.NOTHING_KNOWN
    if delivered.proof is None:
        return Conclusion.UNREADABLE
    if delivered.dead_letters and delivered.proof.status in _UNFINISHED:
        return Conclusion.GIVEN_UP  # even if the receipt for it was trimmed
    return _BY_STATUS[delivered.proof.status]


def _conclusion(
    query: RevocationQuery,
    apps: Sequence[AppHistory],
    unapplied: Sequence[RefusalEntry],
    now: float,
) -> Conclusion:
    conclusions = {app_conclusion(query, app) for app in apps} - {Conclusion.NOTHING_KNOWN}
    if unapplied:
        conclusions.add(_of_refusal(unapplied[0], now))
    elif conclusions and _logged_in_later(query, apps):
        return Conclusion.LATER_LOGIN
    return min(conclusions, key=_WORST_FIRST.index, default=Conclusion.NOTHING_KNOWN)


def _of_refusal(newest: RefusalEntry, now: float) -> Conclusion:
    if not newest.waits:
        return Conclusion.REFUSED
    kept = newest.at is not None and now - newest.at <= WAITS_SECONDS
    return Conclusion.WAITING if kept else Conclusion.NOT_APPLIED


def _is_later(refusal: RefusalEntry, query: RevocationQuery, apps: Sequence[AppHistory]) -> bool:
    """Whether its effect may be missing, because no later event ended this session."""
    at = refusal.at or 0.0
    if query.login_at is None:
        return at > max(_ends(query, apps), default=float("-inf"))
    if at < query.login_at:
        return False
    return not all(app.state in (State.REVOKED, State.EXPIRED) for app in apps)


def _ends(query: RevocationQuery, apps: Iterable[AppHistory]) -> Iterable[float]:
    for app in apps:
        if (delivered := decisive_event(query, app)) is not None:
            yield delivered.at
        if app.cutoff is not None:
            yield app.cutoff + 1.0  # a cutoff is rounded down


def _logged_in_later(query: RevocationQuery, apps: Sequence[AppHistory]) -> bool:
    marked = [app for app in apps if app.markers]
    if query.login_at is None or not marked:
        return False
    return all(app.state is State.ALIVE and not app.lost for app in marked)
