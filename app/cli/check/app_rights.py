"""Rows about apps whose keys the receiver's Redis user may not write.

Every command of a logout is sent for each app, in a form that changes nothing: Redis checks the
rights of the user first.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from redis.asyncio import Redis

from app.cli.table import CheckVerdict, Row, count
from app.store.errors import AppForbidden, RevocationRefused, fault_of
from app.store.store import SCRIPT
from app.store.topology import RedisTopology
from backchannel_logout import AppKeys

# One round trip.
_CHUNK = 200

_MAX_ROWS = 100

# What `fault_of` makes of an error that begins with ERR.
_COMPLAINTS = ("ERR", "ResponseError")

_NOBODY = ("check", "nobody")
"""An issuer and a session id that no logout names."""


async def app_rights_rows(topology: RedisTopology, apps: Sequence[str]) -> list[Row]:
    """A row for each app that the user may not write, or one for all. Raises the library's
    errors if a server cannot be reached."""
    by_server: dict[Redis, list[str]] = {}
    for app in apps:
        by_server.setdefault(await topology.primary(app), []).append(app)
    faults: dict[str, str] = {}
    for server, of_server in by_server.items():
        left = iter(of_server)
        while chunk := list(islice(left, _CHUNK)):
            faults |= await _faults(server, chunk)
    rows = list(_rows(faults))
    what = f"the user may write the keys of {count(len(apps), 'app')}"
    return rows or [Row(CheckVerdict.RIGHT, "redis rights", what)]


def _rows(faults: Mapping[str, str]) -> Iterator[Row]:
    for app, fault in islice(sorted(faults.items()), _MAX_ROWS):
        cure = "its logouts wait in the journal; see the ACL in docs/contract.md"
        yield Row(CheckVerdict.WRONG, f"app {app}", f"{fault}: {cure}")
    if (more := len(faults) - _MAX_ROWS) > 0:
        yield Row(CheckVerdict.WRONG, "more apps", f"{count(more, 'app')} with such faults")


async def _faults(server: Redis, apps: Sequence[str]) -> dict[str, str]:
    """What is refused for each app that has a fault."""
    pipeline = server.pipeline(transaction=False)
    commands = {app: _harmless(AppKeys(app)) for app in apps}
    for of_app in commands.values():
        for command in of_app.values():
            pipeline.execute_command(*command)
    answers = iter(await pipeline.execute(raise_on_error=False))
    faults = {}
    for app, of_app in commands.items():
        refused: dict[str, None] = {}
        for what, answer in zip(of_app, islice(answers, len(of_app)), strict=True):
            if isinstance(answer, Exception) and (why := _refusal(answer)):
                refused[f"may not {what}" if why == "NOPERM" else f"{what}: {why}"] = None
        if refused:
            faults[app] = ", ".join(refused)
    return faults


def _refusal(error: Exception) -> str | None:
    """Why the command cannot be used; None for the expected complaint about its arguments."""
    fault = fault_of(error)
    if isinstance(fault, AppForbidden):
        return "NOPERM"
    if isinstance(fault, RevocationRefused):
        return None if str(fault) in _COMPLAINTS else str(fault)
    raise error


def _harmless(keys: AppKeys) -> dict[str, tuple[str | int, ...]]:
    """Commands that a logout runs, by name; with arguments that change nothing."""
    marker = keys.sid(*_NOBODY)
    all_kinds = (
        keys.events, marker, keys.sub(*_NOBODY), keys.all(_NOBODY[0]), keys.jti(*_NOBODY, *_NOBODY),
        keys.meta,
    )  # fmt: skip
    return {
        # The script refuses its missing arguments before the first write.
        "run the script on its keys": ("EVAL", SCRIPT, len(all_kinds), *all_kinds),
        "EXISTS": ("EXISTS", marker),
        "GET": ("GET", marker),
        "PTTL": ("PTTL", marker),
        "SET": ("SET", marker, "0", "PX", 1, "XX"),
        "XADD": ("XADD", keys.events, "NOMKSTREAM", "0-0", "v", "1"),
        "XTRIM": ("XTRIM", keys.events, "MAXLEN", "=", 2**62),
        "HGETALL": ("HGETALL", keys.meta),
    }
