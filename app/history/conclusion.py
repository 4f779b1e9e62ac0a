"""What follows from a session's story: one conclusion, the same in console, `story` and API. Pure.

The worst comes first: while a token of this session was refused, or waits for keys, an older
logout of it that every app has acted on is not the whole truth.
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
    " no app has been told.",
    Conclusion.NOT_APPLIED: "A token about it was answered 503 for want of the provider's keys,"
    " and has not been applied since.",
    Conclusion.GIVEN_UP: "Not complete: a listener has given it up; it is among the dead letters.",
    Conclusion.NOT_YET: "Not complete: somebody reads and has not come to it yet.",
    Conclusion.NOT_READ: "Not complete: an app that was told is read by nobody now, or does not"
    " report it.",
    Conclusion.COMPLETE: "Complete: every app that was told has acted.",
    Conclusion.LATER_LOGIN: "Not ended: this login is later than every logout of it.",
    Conclusion.ENDED: "Ended, by an event that was not found: what the apps did is not known.",
    Conclusion.NOTHING_KNOWN: "Nothing is known of this id: no marker, no event and no refused"
    " token is about it. Ids must match exactly, also in upper and lower case.",
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
    question: RevocationQuery,
    apps: Sequence[AppHistory],
    refusals: Sequence[RefusalEntry] | None,
    *,
    now: float,
    elsewhere: Sequence[str] = (),
) -> SessionHistory:
    """The stories of all apps as one, with its conclusion. ``refusals``: tokens about it that were
    not applied, newest first; None where they cannot be read."""
    later = [one for one in refusals or () if _is_later(one, question, apps)]
    return SessionHistory(
        question=question,
        conclusion=_conclusion(question, apps, later, now),
        apps=tuple(apps),
        refusals=tuple(later),
        refusals_read=refusals is not None,
        elsewhere=tuple(elsewhere),
    )


def decisive_event(question: RevocationQuery, story: AppHistory) -> DeliveredEvent | None:
    """The event that the app's part hangs on: what ended it, else the newest about it."""
    about = [one for one in story.events if one.covers or question.sid is None]
    return story.cause or (about[0] if about else None)


def app_conclusion(question: RevocationQuery, story: AppHistory) -> Conclusion:
    """The part of one app."""
    if story.fault is not None:
        return Conclusion.UNREADABLE
    if (told := decisive_event(question, story)) is None:
        return Conclusion.ENDED if story.markers else Conclusion.NOTHING_KNOWN
    if told.proof is None:
        return Conclusion.UNREADABLE
    if told.dead_letters and told.proof.status in _UNFINISHED:
        return Conclusion.GIVEN_UP  # also where the receipt that says so was trimmed
    return _BY_STATUS[told.proof.status]


def _conclusion(
    question: RevocationQuery, apps: Sequence[AppHistory], later: Sequence[RefusalEntry], now: float
) -> Conclusion:
    found = {app_conclusion(question, one) for one in apps} - {Conclusion.NOTHING_KNOWN}
    if later:
        found.add(_of_refusal(later[0], now))
    elif found and _logged_in_later(question, apps):
        return Conclusion.LATER_LOGIN
    return min(found, key=_WORST_FIRST.index, default=Conclusion.NOTHING_KNOWN)


def _of_refusal(newest: RefusalEntry, now: float) -> Conclusion:
    if not newest.waits:
        return Conclusion.REFUSED
    kept = newest.at is not None and now - newest.at <= WAITS_SECONDS
    return Conclusion.WAITING if kept else Conclusion.NOT_APPLIED


def _is_later(refusal: RefusalEntry, question: RevocationQuery, apps: Sequence[AppHistory]) -> bool:
    """Whether what it asked for may not have happened: no end of this session follows it."""
    at = refusal.at or 0.0
    if question.login_at is None:
        return at > max(_ends(question, apps), default=float("-inf"))
    if at < question.login_at:
        return False
    return not all(one.state in (State.REVOKED, State.EXPIRED) for one in apps)


def _ends(question: RevocationQuery, apps: Iterable[AppHistory]) -> Iterable[float]:
    for app in apps:
        if (told := decisive_event(question, app)) is not None:
            yield told.at
        if app.cutoff is not None:
            yield app.cutoff + 1.0  # a cutoff is rounded down


def _logged_in_later(question: RevocationQuery, apps: Sequence[AppHistory]) -> bool:
    marked = [one for one in apps if one.markers]
    if question.login_at is None or not marked:
        return False
    return all(one.state is State.ALIVE and not one.lost for one in marked)
