"""``python -m app revoke``: end a session, a user's sessions, or all of an issuer in an app.

Straight to Redis, by the same script as every logout, and without a journal: that belongs to the
receivers that run. What Redis does not take is said, app by app, and the exit status is 1; so is
what it may have taken, where its answer did not come. To say it again does no harm.
"""

import argparse
import asyncio
import contextlib
import getpass
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.admin_revocations import SOURCE, new_jti, revocations
from app.audit import RESERVED_NAME, Act, Audit, is_reserved, outcome_of
from app.cli.argument_types import duration_argument
from app.cli.common import WrongUsage, add_json, add_whom, apps_of, issuer_of, opened
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

_LONGEST_ID = 255

# An app that is told acts within milliseconds; one that asks twice a second, within that.
_PAUSE = 0.2

_ACTED = frozenset({AppStatus.TORN_DOWN, AppStatus.SEEN, AppStatus.ASKS})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_whom(parser)
    parser.add_argument("--sid", help="end this session; --sub may name its user as well")
    parser.add_argument("--sub", help="end all sessions of this user")
    parser.add_argument(
        "--all", action="store_true", help="end every session of the issuer; needs --app"
    )
    parser.add_argument("--reason", required=True, metavar="TEXT", help="why; for the audit")
    parser.add_argument("--by", metavar="NAME", help="who; for the audit (else who is logged in)")
    parser.add_argument("--yes", action="store_true", help="do not ask before --sub and --all")
    parser.add_argument("--dry-run", action="store_true", help="say what would be written")
    parser.add_argument(
        "--wait", type=duration_argument, metavar="TIME",
        help="wait for so long, such as 10s, until every app has acted; exit 1 if one has not",
    )  # fmt: skip
    add_json(parser)


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be done, and by whom."""

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
        return [one.event.app for one in self.revocations]


@dataclass(slots=True)
class _Done:
    """What became of it in one app. ``result`` is the store's."""

    revocation: Revocation
    result: Result
    told: tuple[DeliveredEvent, ...] = ()

    @property
    def fault(self) -> str | None:
        """Redis' word; None where all is well."""
        return str(self.result) if isinstance(self.result, RedisFault) else None

    @property
    def written(self) -> bool | None:
        """None where Redis has not answered: it may have been written or not."""
        if isinstance(self.result, RedisAway):
            return None
        return self.fault is None or isinstance(self.result, LevelNotReached)

    @property
    def has_acted(self) -> bool:
        return bool(self.told) and all(
            one.proof is not None and one.proof.status in _ACTED for one in self.told
        )


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    # The line of the audit: it is all there is when Redis does not take the entry.
    set_up_log(settings, min_level="error")
    logging.getLogger("app.audit").setLevel(logging.INFO)
    order = _order(settings, arguments, time.time())
    if arguments.dry_run:
        _print_order(order, as_json_=arguments.json)
        return 0
    if not arguments.yes and order.kind is not EventKind.SESSION and not _confirmed(order):
        print("nothing was written", file=sys.stderr)
        return 1
    done, audited = asyncio.run(_carry_out(settings, order, arguments.wait))
    if arguments.json:
        print(json.dumps(_json(order, done, audited=audited)))
    else:
        _print_done(done)
    failed = [one for one in done if one.fault is not None]
    unmoved = arguments.wait is not None and not all(one.has_acted for one in done)
    return 1 if failed or unmoved or not audited else 0


def _order(settings: Settings, arguments: argparse.Namespace, now: float) -> _Order:
    """Raises `WrongUsage`."""
    sid, sub = arguments.sid, arguments.sub
    if arguments.all == (sid is not None or sub is not None):
        raise WrongUsage("say whom to end: --sid, --sub, or --all")
    if arguments.all and not arguments.app:
        raise WrongUsage("--all needs --app: in which app everybody is to be signed out")
    for name, value in (("--sid", sid), ("--sub", sub)):
        if value is not None and not 1 <= len(value) <= _LONGEST_ID:
            raise WrongUsage(f"{name} has 1 to {_LONGEST_ID} characters")
    by = arguments.by or _own_name()
    if not arguments.reason.strip() or not by.strip():
        raise WrongUsage("--reason and --by are not empty")
    if is_reserved(by):
        raise WrongUsage(f"--by: {RESERVED_NAME}")
    issuer, _ = issuer_of(settings, arguments.issuer)
    jti = new_jti()
    found = revocations(
        issuer, apps_of([issuer], arguments.app), jti=jti, now=now, sid=sid, sub=sub
    )
    return _Order(issuer, found, jti, by, arguments.reason)


def _own_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        raise WrongUsage("--by is needed: this system does not say who you are") from None


def _confirmed(order: _Order) -> bool:
    if not sys.stdin.isatty():
        raise WrongUsage("--yes is needed where nobody can be asked")
    event = order.revocations[0].event
    whom = f"all sessions of {bare(event.sub)}" if event.sub else "EVERY session"
    print(f"{whom} of {bare(event.iss)} end now in: {', '.join(order.apps)}", file=sys.stderr)
    print("yes or no? ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# -- doing it ------------------------------------------------------------------------------


async def _carry_out(
    settings: Settings, order: _Order, wait: float | None
) -> tuple[list[_Done], bool]:
    """Write all of them; what became of each, and whether the audit has it."""
    async with opened(settings) as link:
        results = await new_store(settings, link).write(order.revocations)
        done = [
            _Done(revocation, result)
            for revocation, result in zip(order.revocations, results, strict=True)
        ]
        audited = await _audit(settings, link, order, done)
        history = History(settings, link)
        until = asyncio.get_running_loop().time() + (wait or 0.0)
        while True:
            for one in done:
                if one.fault is None:
                    await _find(history, one, order.jti)
            over = asyncio.get_running_loop().time() >= until
            if over or all(one.fault is not None or one.has_acted for one in done):
                return done, audited
            await asyncio.sleep(_PAUSE)


async def _find(history: History, done: _Done, jti: str) -> None:
    """The events that it has made, with what the app has done about them; as far as Redis says."""
    app, names = done.revocation.event.app, done.revocation.issuer_names
    with contextlib.suppress(Unreadable):
        found = list(done.told) or [
            one
            for one in await history.recent(apps=[app], limit=1000)
            if one.event is not None and one.event.jti == jti and one.event.iss in names
        ]
        done.told = tuple([await history.with_proof(one) for one in found])


async def _audit(settings: Settings, link: RedisTopology, order: _Order, done: list[_Done]) -> bool:
    event = order.revocations[0].event
    act = Act(
        act="revoke", who=order.by, why=order.reason,
        outcome=outcome_of(one.written for one in done), iss=event.iss, apps=order.apps,
        kind=event.kind.value, sid=event.sid, sub=event.sub, jti=order.jti,
    )  # fmt: skip
    try:
        hashed: Callable[[str], str] = await keyed_hash(settings, link.client)
    except EXCHANGE_FAULTS:
        # Redis has the key; without it the line of the log is written all the same.
        hashed = _not_known
    try:
        await Audit(link.client, hashed).write(act)
    except EXCHANGE_FAULTS as error:
        print(f"the audit entry was not written: {type(error).__name__}", file=sys.stderr)
        return False
    return True


def _not_known(_: str) -> str:
    return "not-known"


# -- saying it -----------------------------------------------------------------------------


def _print_order(order: _Order, *, as_json_: bool) -> None:
    if as_json_:
        print(json.dumps(_json(order, [], audited=False) | {"dry_run": True}))
        return
    for one in order.revocations:
        _print_written(one)
    print(f"\nnothing was written: --dry-run; by {bare(order.by)}, for {quoted(order.reason)}")


def _print_written(revocation: Revocation) -> None:
    event = revocation.event
    print(f"{event.app}: {event.kind}, what logged in at or before {moment(event.cutoff)}")
    for key in revocation.marker_keys:
        print(f"  marker     {key} = {event.cutoff}")


def _print_done(done: list[_Done]) -> None:
    for one in done:
        if one.fault is not None:
            print(f"{one.revocation.event.app}: {_SAID[one.written]}: {one.fault}")
            continue
        _print_written(one.revocation)
        for told in one.told:
            print(f"  event      {told.id}")
            if told.proof is not None:
                print(f"  standing   {proof_words(told.proof)}")
    for written, said in _SAID_AT_LAST.items():
        faults = [one for one in done if one.fault is not None and one.written is written]
        if faults:
            apps = ", ".join(one.revocation.event.app for one in faults)
            print(f"\n{said}: {apps}; say it again", file=sys.stderr)


_SAID = {
    False: "FAILED",
    None: "NOT KNOWN, Redis has not answered",
    True: "written, but not as durably as the settings demand",
}
_SAID_AT_LAST = {
    False: "not ended in",
    None: "perhaps ended, perhaps not, in",
    True: "ended, and may be lost again, in",
}


def _json(order: _Order, done: list[_Done], *, audited: bool) -> dict[str, Any]:
    faults = {one.revocation.event.app: one for one in done}

    def of_app(revocation: Revocation) -> dict[str, Any]:
        event = revocation.event
        found = faults.get(event.app)
        return {
            "app": event.app,
            "markers": list(revocation.marker_keys),
            "written": found.written if found is not None else False,
            "fault": found.fault if found is not None else None,
            "events": as_json(found.told) if found is not None else [],
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
        "apps": [of_app(one) for one in order.revocations],
        "audited": audited,
    }
