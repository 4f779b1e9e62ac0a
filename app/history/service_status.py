"""The status of the service and its apps, as rows with a verdict. Pure.

`status` and the console share them. The input is the body of `/readyz` and each app's overview.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from app.formatting import ago, bare, fetch_fault, rounded_duration
from app.history.records import AppOverview, Group
from app.store.unserved import Unserved, UnservedApp
from app.verdict import CheckVerdict, Row, count
from backchannel_logout import AppKeys, ReaderKind

# Listeners acknowledge within moments; a failing event is given up after a minute and a half.
_PENDING_WARNING = 100


def service_rows(ready: Mapping[str, Any], now: float) -> Iterator[Row]:
    """The service's own status; ``ready`` is the body of `/readyz`."""
    verdict = CheckVerdict.RIGHT if ready["ready"] else CheckVerdict.WRONG
    text = "ready" if ready["ready"] else "stopping" if ready.get("stopping") else "not ready"
    yield Row(verdict, "service", text)
    redis = ready.get("redis", {})
    if redis.get("error") is not None:
        yield Row(CheckVerdict.WRONG, "service's redis", f"takes no writes: {redis['error']}")
    elif redis.get("durability_error") is not None:
        text = f"written, but less durably than required: {redis['durability_error']}"
        yield Row(CheckVerdict.WRONG, "service's redis", text)
    else:
        yield Row(CheckVerdict.RIGHT, "service's redis", "takes writes")
    yield from _app_fault_rows(ready)
    if (emptied := ready.get("redis_emptied")) and now - emptied["at"] < _EMPTIED_SECONDS:
        yield _emptied_row(emptied, now)
    for tenant, faults in ready.get("refused_tenants", {}).items():
        yield Row(CheckVerdict.WRONG, f"tenant {tenant}", f"its file is refused: {faults[0]}")
    for app, conflict in ready.get("max_session_age_conflicts", {}).items():
        yield age_conflict_row(app, **conflict)
    for name, keys in ready.get("issuers", {}).items():
        yield _issuer_row(name, keys)
    if journal := ready.get("journal"):
        yield _journal_row(journal)
    if canary := ready.get("canary"):
        yield _canary_row(canary, now)


# How long it is worth a person's attention.
_EMPTIED_SECONDS = 86400.0

# What to do about an app that takes no writes.
_APP_FAULTS = {
    "NOPERM": "the receiver's Redis user may not write its keys; see the ACL in docs/contract.md",
    "WRONGTYPE": "one of its keys has another type",
    "QUOTA": "more new markers than marker_quota allows",
}


def _app_fault_rows(ready: Mapping[str, Any]) -> Iterator[Row]:
    for app, word in ready.get("apps_not_writable", {}).items():
        text = f"its logouts are not written: {word}"
        why = f"; {_APP_FAULTS[word]}" if word in _APP_FAULTS else ""
        yield Row(CheckVerdict.WRONG, f"app {app}", text + why)
    if more := ready.get("apps_not_shown"):
        yield Row(CheckVerdict.WRONG, "more apps", f"{count(more, 'app')} with such faults")


def _emptied_row(emptied: Mapping[str, Any], now: float) -> Row:
    again = emptied["written_again"]
    text = (
        f"came back empty {ago(emptied['at'], now)}; the copy reached back "
        f"{rounded_duration(emptied['reach'])}"
    )
    if again is not None:
        text += f" and had {count(again, 'logout')}, which were written again"
    text += "; what was ended before is lost: docs/runbook.md, LogoutsLost"
    return Row(CheckVerdict.WRONG, "service's redis", text)


def age_conflict_row(app: str, own: int, in_force: int, receiver: str) -> Row:
    """Also for `check`."""
    text = (
        f"max_session_age is {rounded_duration(own)} here, and {rounded_duration(in_force)} is in "
        f"force: the receiver {receiver} has it; give all receivers the same"
    )
    return Row(CheckVerdict.WARNING, f"app {app}", text)


def _issuer_row(name: str, keys: Mapping[str, Any]) -> Row:
    what, age = f"issuer {name}", keys.get("age_seconds")
    text = count(keys["keys"], "key")
    if age is not None:
        text += f", fetched {rounded_duration(age)} ago"
    if keys.get("error") is not None:
        # The last good keys are still used, so no token is refused yet.
        verdict = CheckVerdict.WRONG if not keys["keys"] else CheckVerdict.WARNING
        return Row(verdict, what, f"{text}; {fetch_fault(keys['error'])}")
    return Row(CheckVerdict.RIGHT if keys["attempted"] else CheckVerdict.UNKNOWN, what, text)


def _canary_row(canary: Mapping[str, Any], now: float) -> Row:
    last, failures = canary["last"], canary["failures"]
    if last is None:
        return Row(CheckVerdict.UNKNOWN, "canary", "has not tried yet")
    text = f"{last['outcome']}, {ago(last['at'], now)}"
    if last["to_marker"] is not None:
        text += f"; marker after {last['to_marker']:.3f} s"
    if last["to_receipt"] is not None:
        text += f", receipt after {last['to_receipt']:.3f} s"
    text += f"; failed {failures} of {count(canary['tries'], 'time')}"
    return Row(
        CheckVerdict.RIGHT if last["outcome"] == "ok" else CheckVerdict.WRONG, "canary", text
    )


def _journal_row(journal: Mapping[str, Any]) -> Row:
    text = f"{journal['waiting']} waiting, {journal['set_aside']} set aside"
    if journal.get("error") is not None:
        return Row(CheckVerdict.WRONG, "journal", f"{text}; takes nothing: {journal['error']}")
    verdict = CheckVerdict.WARNING if journal["waiting"] else CheckVerdict.RIGHT
    return Row(CheckVerdict.WRONG if journal["set_aside"] else verdict, "journal", text)


def app_rows(app: AppOverview, now: float) -> Iterator[Row]:
    """The status of an app, from Redis."""
    what = f"app {app.app}"
    if app.fault is not None:
        yield Row(CheckVerdict.WRONG, what, f"cannot be read from Redis: {app.fault}")
        return
    if app.max_session_age is None:
        yield Row(
            CheckVerdict.WRONG, what, "no receiver has served it in this Redis: it answers 503"
        )
        return
    last = f", the last {ago(app.last_event.at, now)}" if app.last_event is not None else ""
    if app.beyond is not None:
        text = f"{count(app.events, 'event')}{last}; what the app has written is not read"
        yield Row(CheckVerdict.WRONG, what, f"{text}: {app.beyond}")
        return
    text = f"{count(app.events, 'event')}{last}; {_readers(app, now)}"
    if app.teardown_median is not None and app.teardown_slowest is not None:
        text += f"; handled in {app.teardown_median:.3f} s, at most {app.teardown_slowest:.3f} s"
    yield Row(CheckVerdict.RIGHT, what, text)
    yield from unread_rows(app)
    if app.silent and not app.active:
        yield Row(
            CheckVerdict.WARNING, what, f"{count(app.silent, 'reader')} silent, and no other one"
        )
    if app.behind:
        yield Row(CheckVerdict.WARNING, what, f"a reader is {count(app.behind, 'event')} behind")
    for group in app.groups:
        yield _group_row(what, group)
    if app.dead_letters:
        when = f", the last {ago(app.last_dead_letter, now)}" if app.last_dead_letter else ""
        text = f"{count(app.dead_letters, 'dead letter')}{when}: logouts that were not handled"
        yield Row(CheckVerdict.WARNING, what, text)


def unread_rows(app: AppOverview) -> Iterator[Row]:
    """Warnings about logouts that end no session of the app; also for `check`."""
    what = f"app {app.app}"
    if app.events and not app.reported and app.beyond is None and app.fault is None:
        yield Row(
            CheckVerdict.WARNING,
            what,
            "no reader has ever reported: no guard or listener has run under this name, or its "
            "Redis user may not write the report (docs/contract.md, ACL rules)",
        )
    for iss in app.without_sid:
        yield Row(
            CheckVerdict.WARNING,
            what,
            f"its sessions of {iss} have no sid, and the logout tokens name one, so they end no "
            'session. Set both_claims = "user" for this client, unless the app omits the sid',
        )


def unserved_rows(found: Unserved) -> Iterator[Row]:
    """Apps in Redis that no configured client belongs to."""
    if found.fault is not None:
        text = "this user may not SCAN" if found.fault == "NOPERM" else found.fault
        yield Row(CheckVerdict.UNKNOWN, "other apps", f"not searched: {text}")
        return
    for app in found.apps:
        yield Row(*_unserved(app))
    if not found.complete:
        yield Row(CheckVerdict.UNKNOWN, "other apps", "not all of Redis was scanned")


def _unserved(app: UnservedApp) -> tuple[CheckVerdict, str, str]:
    what, no_client = f"app {app.app}", "no client of these settings belongs to it"
    if not app.has_meta:
        text = f"{no_client}, but a reader uses this name: is it misspelled? It answers 503"
        return CheckVerdict.WARNING, what, text
    if app.elsewhere:
        text = f"{no_client}: another receiver serves it, or one did until a moment ago"
        return CheckVerdict.UNKNOWN, what, text
    if app.for_ever:
        until = "its guards accept every session as alive, forever"
    elif app.expires_in is not None:
        until = (
            f"its guards accept every session as alive for {rounded_duration(app.expires_in)} more"
        )
    else:
        until = "its guards may accept every session as alive"
    reads = "; it has readers" if app.reads else ""
    remove = f"if it is not needed: redis-cli DEL '{AppKeys(app.app).meta}'"
    return CheckVerdict.WARNING, what, f"{no_client}: {until}{reads}; {remove}"


def _readers(app: AppOverview, now: float) -> str:
    if not app.readers:
        return "not reporting"
    words: dict[str, str] = {ReaderKind.ASKS: "asks at each check"}
    text = ", ".join(f"{number} {words.get(kind, kind)}" for kind, number in app.readers)
    if app.asked_at is not None:
        text += f" (asked {ago(app.asked_at, now)})"
    return f"reads: {text}"


def _group_row(what: str, group: Group) -> Row:
    lag = "unknown" if group.lag is None else str(group.lag)
    text = (
        f"group {bare(group.name)}: lag {lag}, {group.pending} pending, {group.consumers} consumers"
    )
    late = (group.lag or 0) + group.pending >= _PENDING_WARNING
    return Row(CheckVerdict.WARNING if late else CheckVerdict.RIGHT, what, text)
