"""``python -m app revoke``: ends a session, a user's sessions, or all of an issuer in an app.

Writes to Redis directly, with the same script as every logout. There is no journal, which belongs
to running receivers: what Redis does not take is printed per app, and the exit status is 1, also if
the reply was lost and the result is unknown. Repeating the command is harmless.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.admin_revocations import SOURCE, new_jti, revocations
from app.audit import RESERVED_NAME, Act, Audit, is_reserved, outcome_of
from app.cli.argument_types import duration_argument
from app.cli.common import WrongUsage, add_json, add_whom, apps_of, issuer_of, opened, own_name
from app.cli.story import proof_words
from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.formatting import bare, moment, quoted
from app.history import DeliveredEvent, History, Unreadable, as_json
from app.publish.publisher import new_store
from app.revocation import Revocation
from app.store.errors import EXCHANGE_FAULTS, LevelNotReached, RedisAway, RedisFault
from app.store.store import Result
from app.store.topology import RedisTopology
from app.telemetry.hashes import keyed_hash
from app.telemetry.logs.setup import set_up_log
from backchannel_logout import AppStatus, EventKind

HELP = "end a session, a user's sessions, or everything of an issuer in an app, up to now"

_MAX_ID_LENGTH = 255

# Listeners act within milliseconds, and apps that poll within half a second.
_POLL_SECONDS = 0.2

_ACTED = frozenset({AppStatus.TORN_DOWN, AppStatus.SEEN, AppStatus.ASKS})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_whom(parser)
    parser.add_argument("--sid", help="end this session; --sub may name its user as well")
    parser.add_argument("--sub", help="end all sessions of this user")
    parser.add_argument(
        "--all", action="store_true",
        help="end every session of the issuer, in all of its apps unless --app names some",
    )  # fmt: skip
    parser.add_argument(
        "--all-issuers", action="store_true",
        help="with --all: of every issuer, as after Redis has lost its data",
    )  # fmt: skip
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; for the audit")
    parser.add_argument("--by", metavar="NAME", help="who; for the audit (default: the login name)")
    parser.add_argument("--yes", action="store_true", help="do not ask before --sub and --all")
    parser.add_argument("--dry-run", action="store_true", help="show what would be written")
    parser.add_argument(
        "--wait", type=duration_argument, metavar="TIME",
        help="wait at most this long (10s) until every app has acted; exit 1 if one has not",
    )  # fmt: skip
    add_json(parser)


@dataclass(frozen=True, slots=True)
class _Order:
    """What to revoke, and on whose behalf."""

    issuer: IssuerSettings
    revocations: list[Revocation]
    jti: str
    by: str
    reason: str

    @property
    def kind(self) -> EventKind:
        return self.revocations[0].event.kind

    @property
    def apps(self) -> list[str]:
        return [revocation.event.app for revocation in self.revocations]


@dataclass(slots=True)
class _AppResult:
    """The result in one app. ``result`` is the store's."""

    revocation: Revocation
    result: Result
    events: tuple[DeliveredEvent, ...] = ()

    @property
    def fault(self) -> str | None:
        """The fault of Redis, if any."""
        return str(self.result) if isinstance(self.result, RedisFault) else None

    @property
    def written(self) -> bool | None:
        """None if Redis did not answer: the revocation may be written or not."""
        if isinstance(self.result, RedisAway):
            return None
        return self.fault is None or isinstance(self.result, LevelNotReached)

    @property
    def has_acted(self) -> bool:
        return bool(self.events) and all(
            event.proof is not None and event.proof.status in _ACTED for event in self.events
        )


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    # If Redis does not take the audit entry, its log line is the only record.
    set_up_log(settings, min_level="error")
    logging.getLogger("app.audit").setLevel(logging.INFO)
    orders = _orders(settings, arguments, time.time())
    if arguments.dry_run:
        _print_orders(orders, arguments)
        return 0
    asks = not arguments.yes and orders[0].kind is not EventKind.SESSION
    if asks and not _confirmed(orders):
        print("nothing was written", file=sys.stderr)
        return 1
    outcomes = asyncio.run(_carry_out_all(settings, orders, arguments.wait))
    if arguments.json:
        found = [
            _json(order, results, audited=audited)
            for order, (results, audited) in zip(orders, outcomes, strict=True)
        ]
        print(json.dumps(found if arguments.all_issuers else found[0]))
    else:
        for results, _ in outcomes:
            _print_results(results)
    all_results = [result for results, _ in outcomes for result in results]
    failed = any(result.fault is not None for result in all_results)
    pending = arguments.wait is not None and not all(result.has_acted for result in all_results)
    audited = all(audited for _, audited in outcomes)
    return 1 if failed or pending or not audited else 0


def _orders(settings: Settings, arguments: argparse.Namespace, now: float) -> list[_Order]:
    """One for each issuer. Raises `WrongUsage`."""
    sid, sub = arguments.sid, arguments.sub
    if arguments.all == (sid is not None or sub is not None):
        raise WrongUsage("say whom to end: --sid, --sub, or --all")
    if arguments.all_issuers and (not arguments.all or arguments.issuer is not None):
        raise WrongUsage("--all-issuers goes with --all, and without --issuer")
    for name, value in (("--sid", sid), ("--sub", sub)):
        if value is not None and not 1 <= len(value) <= _MAX_ID_LENGTH:
            raise WrongUsage(f"{name} has 1 to {_MAX_ID_LENGTH} characters")
    by = arguments.by or own_name()
    if not arguments.reason.strip() or not by.strip():
        raise WrongUsage("--reason and --by are not empty")
    if is_reserved(by):
        raise WrongUsage(f"--by: {RESERVED_NAME}")
    issuers = settings.issuers
    if not arguments.all_issuers:
        issuers = (issuer_of(settings, arguments.issuer)[0],)
    wanted = set(apps_of(issuers, arguments.app))
    orders = []
    for issuer in issuers:
        apps = [app for app in apps_of([issuer], None) if app in wanted]
        if apps:
            jti = new_jti()
            order = revocations(issuer, apps, jti=jti, now=now, sid=sid, sub=sub)
            orders.append(_Order(issuer, order, jti, by, arguments.reason))
    return orders


def _confirmed(orders: Sequence[_Order]) -> bool:
    if not sys.stdin.isatty():
        raise WrongUsage("--yes is required without a terminal")
    for order in orders:
        event = order.revocations[0].event
        whom = f"all sessions of {bare(event.sub)}" if event.sub else "EVERY session"
        print(f"{whom} of {bare(event.iss)} end now in: {', '.join(order.apps)}", file=sys.stderr)
    print("yes or no? ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# -- writing ------------------------------------------------------------------------------


async def _carry_out_all(
    settings: Settings, orders: Sequence[_Order], wait: float | None
) -> list[tuple[list[_AppResult], bool]]:
    return [await _carry_out(settings, order, wait) for order in orders]


async def _carry_out(
    settings: Settings, order: _Order, wait: float | None
) -> tuple[list[_AppResult], bool]:
    """Write the revocations; returns the results, and whether the audit entry was written."""
    async with opened(settings) as link:
        results = await new_store(settings, link).write(order.revocations)
        app_results = [
            _AppResult(revocation, result)
            for revocation, result in zip(order.revocations, results, strict=True)
        ]
        audited = await _audit(settings, link, order, app_results)
        history = History(settings, link)
        until = asyncio.get_running_loop().time() + (wait or 0.0)
        while True:
            for result in app_results:
                if result.fault is None:
                    await _read_events(history, result, order.jti)
            expired = asyncio.get_running_loop().time() >= until
            if expired or all(
                result.fault is not None or result.has_acted for result in app_results
            ):
                return app_results, audited
            await asyncio.sleep(_POLL_SECONDS)


async def _read_events(history: History, result: _AppResult, jti: str) -> None:
    """Read the events of the revocation, and what the app has done about them."""
    app, names = result.revocation.event.app, result.revocation.heading.issuer_names
    with contextlib.suppress(Unreadable):
        events = list(result.events) or [
            delivered
            for delivered in await history.recent(apps=[app], limit=1000)
            if (event := delivered.event) is not None and event.jti == jti and event.iss in names
        ]
        result.events = tuple([await history.with_proof(delivered) for delivered in events])


async def _audit(
    settings: Settings, link: RedisTopology, order: _Order, app_results: list[_AppResult]
) -> bool:
    event = order.revocations[0].event
    act = Act(
        act="revoke", who=order.by, why=order.reason,
        outcome=outcome_of(result.written for result in app_results), iss=event.iss,
        apps=order.apps, kind=event.kind.value, sid=event.sid, sub=event.sub, jti=order.jti,
    )  # fmt: skip
    try:
        hashed: Callable[[str], str] = await keyed_hash(settings, link.client)
    except EXCHANGE_FAULTS:
        # The key is in Redis. The log line is written without it.
        hashed = _not_known
    try:
        await Audit(link.client, hashed).write(act)
    except EXCHANGE_FAULTS as error:
        print(f"the audit entry was not written: {type(error).__name__}", file=sys.stderr)
        return False
    return True


def _not_known(_: str) -> str:
    return "not-known"


# -- output -----------------------------------------------------------------------------


def _print_orders(orders: Sequence[_Order], arguments: argparse.Namespace) -> None:
    if arguments.json:
        found = [_json(order, [], audited=False) | {"dry_run": True} for order in orders]
        print(json.dumps(found if arguments.all_issuers else found[0]))
        return
    for order in orders:
        for revocation in order.revocations:
            _print_written(revocation)
    order = orders[0]
    print(f"\nnothing was written: --dry-run; by {bare(order.by)}, for {quoted(order.reason)}")


def _print_written(revocation: Revocation) -> None:
    event = revocation.event
    print(f"{event.app}: {event.kind}, what logged in at or before {moment(event.cutoff)}")
    for key in revocation.marker_keys:
        print(f"  marker     {key} = {event.cutoff}")


def _print_results(results: list[_AppResult]) -> None:
    for result in results:
        if result.fault is not None:
            print(f"{result.revocation.event.app}: {_FAULTS[result.written]}: {result.fault}")
            continue
        _print_written(result.revocation)
        for event in result.events:
            print(f"  event      {event.id}")
            if event.proof is not None:
                print(f"  status     {proof_words(event.proof)}")
    for written, summary in _SUMMARIES.items():
        apps = [
            result.revocation.event.app
            for result in results
            if result.fault is not None and result.written is written
        ]
        if apps:
            print(f"\n{summary}: {', '.join(apps)}; repeat the command", file=sys.stderr)


_FAULTS = {
    False: "FAILED",
    None: "NOT KNOWN, Redis has not answered",
    True: "written, but not as durably as the settings demand",
}
_SUMMARIES = {
    False: "not ended in",
    None: "perhaps ended, perhaps not, in",
    True: "ended, and may be lost again, in",
}


def _json(order: _Order, app_results: list[_AppResult], *, audited: bool) -> dict[str, Any]:
    results = {result.revocation.event.app: result for result in app_results}

    def of_app(revocation: Revocation) -> dict[str, Any]:
        event = revocation.event
        result = results.get(event.app)
        return {
            "app": event.app,
            "markers": list(revocation.marker_keys),
            "written": result.written if result is not None else False,
            "fault": result.fault if result is not None else None,
            "events": as_json(result.events) if result is not None else [],
        }

    event = order.revocations[0].event
    return {
        "act": order.jti,
        "source": SOURCE,
        "by": order.by,
        "reason": order.reason,
        "kind": event.kind.value,
        "iss": event.iss,
        "sid": event.sid,
        "sub": event.sub,
        "cutoff": event.cutoff,
        "apps": [of_app(revocation) for revocation in order.revocations],
        "audited": audited,
    }
