"""``python -m app watch``: prints logouts and refusals of all apps as they occur, until Ctrl-C."""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace

from app.cli.argument_types import duration_argument
from app.cli.common import add_json, add_whom, apps_of, issuer_of, issuers_to_read, opened
from app.config.model import Settings
from app.errors import Reason
from app.formatting import bare, precise_moment
from app.history import DeliveredEvent, Filter, History, Missed, RefusalEntry, as_json
from app.store.errors import EXCHANGE_FAULTS, fault_of
from app.store.topology import RedisTopology
from app.telemetry.hashes import keyed_hash
from backchannel_logout import EventKind

HELP = "show logouts and refusals as they come, until Ctrl-C"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_whom(parser)
    parser.add_argument("--sid", help="only this session")
    parser.add_argument("--sub", help="only this user")
    parser.add_argument(
        "--kind",
        choices=[one.value for one in EventKind],
        help="only events of this kind, and no refusals",
    )
    parser.add_argument(
        "--reason", choices=[one.value for one in Reason], metavar="CODE",
        help="only refusals for this reason",
    )  # fmt: skip
    parser.add_argument(
        "--since", type=duration_argument, metavar="TIME", help="begin this long ago, such as 10m"
    )
    add_json(parser)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    # Without the canary, whose logout every minute would be noise; `--app` or `--issuer` shows it.
    issuers, readable, iss = settings.issuers, issuers_to_read(settings), None
    if arguments.issuer:
        issuer, iss = issuer_of(settings, arguments.issuer, readable)
        issuers = readable = (issuer,)
    wanted = Filter(
        iss=iss,
        sid=arguments.sid,
        sub=arguments.sub,
        kind=EventKind(arguments.kind) if arguments.kind else None,
        reason=arguments.reason,
    )
    apps = apps_of(readable if arguments.app else issuers, arguments.app)
    try:
        asyncio.run(_watch(settings, arguments, apps, wanted))
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does. Prevents an error while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


async def _watch(
    settings: Settings, arguments: argparse.Namespace, apps: list[str], wanted: Filter
) -> None:
    width = max(7, *map(len, apps))
    async with opened(settings) as link:
        if wanted.sid is not None or wanted.sub is not None:
            wanted = await _with_hashes(settings, link, wanted)
        feed = History(settings, link).feed(
            apps,
            # The app that a refused token names is not verified.
            refusals=arguments.kind is None and not (arguments.app and wanted.reason is None),
            since=time.time() - arguments.since if arguments.since is not None else None,
            on_unreadable=_print_away,
        )
        async for item in feed:
            if isinstance(item, Missed) or wanted.passes(item):
                print(_json(item) if arguments.json else _line(item, width), flush=True)


async def _with_hashes(settings: Settings, link: RedisTopology, wanted: Filter) -> Filter:
    """The filter with the hashes that refusals hold in place of users and sessions."""
    try:
        hashed = await keyed_hash(settings, link.client)
    except EXCHANGE_FAULTS as error:
        message = f"refusals of this session or user are not shown: {fault_of(error)}"
        print(message, file=sys.stderr, flush=True)
        return wanted
    return replace(
        wanted,
        sid_hash=hashed(wanted.sid) if wanted.sid is not None else None,
        sub_hash=hashed(wanted.sub) if wanted.sub is not None else None,
    )


def _print_away(faults: Mapping[str, str]) -> None:
    names = ", ".join(f"{name} ({word})" for name, word in sorted(faults.items()))
    message = f"cannot be read now, trying again: {names}" if faults else "all can be read"
    print(message, file=sys.stderr, flush=True)


def _json(item: DeliveredEvent | RefusalEntry | Missed) -> str:
    kind = {DeliveredEvent: "event", RefusalEntry: "refusal", Missed: "missed"}[type(item)]
    members = as_json(item)
    if isinstance(item, DeliveredEvent):
        members = {name: members[name] for name in ("app", "id", "event")}
    return json.dumps({"type": kind} | members)


def _line(item: DeliveredEvent | RefusalEntry | Missed, width: int) -> str:
    if isinstance(item, Missed):
        return f"{'':23}  {item.app:<{width}}  events may be missing here"
    if isinstance(item, RefusalEntry):
        when = precise_moment(item.at) if item.at is not None else ""
        members = {
            "verified": "yes" if item.verified else "no",
            "iss": item.iss,
            "aud": item.aud,
            "alg": item.alg,
            "kid": item.kid,
        }
        rest = {"request": item.request_id, "sid hash": item.sid_hash, "sub hash": item.sub_hash}
        word = "waits" if item.waits else "refused"
        return f"{when:23}  {word:<{width}}  {bare(item.reason)}: {_members(members | rest)}"
    return f"{precise_moment(item.at):23}  {item.app:<{width}}  {event_words(item)}"


def event_words(delivered: DeliveredEvent) -> str:
    """The event in one line."""
    event = delivered.event
    if event is None:
        return f"an event that cannot be read, {delivered.id}"
    members = {
        "sid": event.sid,
        "sub": event.sub,
        "iss": event.iss,
        "source": event.source,
        "clients": ",".join(event.client_ids) or None,
        "jti": event.jti,
    }
    return f"{event.kind:<7}  {_members(members)}"


def _members(members: Mapping[str, str | None]) -> str:
    return "  ".join(f"{name} {bare(text)}" for name, text in members.items() if text is not None)
