"""``python -m app status``: the service, Redis, issuers, apps and journal at a glance.

Reads Redis, and `/readyz` of a service that runs at ``admin_listen``. Where `check` examines the
settings, this examines a running system; it contacts no provider.
"""

import argparse
import asyncio
import json
import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx

from app.cli.check.command import journal_row
from app.cli.common import add_json, opened
from app.cli.table import CheckVerdict, Row, print_table
from app.config.model import Settings
from app.history import AppOverview, History, as_json
from app.history.service_status import app_rows, service_rows, unserved_rows
from app.store.unserved import Unserved

HELP = "the running service, issuers, apps and journal; exit 1: a fault, 3: warnings only"

_READYZ_SECONDS = 5.0

# Exit status for warnings without a fault. 1 is for faults, and argparse uses 2.
_WARNED = 3

# Problems first: among thousands of apps nobody finds them further down.
_ORDER = {
    verdict: place
    for place, verdict in enumerate(
        (
            CheckVerdict.WRONG,
            CheckVerdict.WARNING,
            CheckVerdict.UNKNOWN,
            CheckVerdict.NOTE,
            CheckVerdict.RIGHT,
        )
    )
}

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  the address to query


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument(
        "--problems", action="store_true",
        help="only faults, warnings and what is not known",
    )  # fmt: skip


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    ready, apps, unserved = asyncio.run(_read(settings))
    now = time.time()
    rows = [
        *_service_rows(settings, ready, now),
        *(row for app in apps for row in app_rows(app, now)),
        *unserved_rows(unserved),
    ]
    if ready is None or "journal" not in ready:
        rows.append(journal_row(settings))
    rows.sort(key=lambda row: _ORDER[row.verdict])
    verdicts = {row.verdict for row in rows}
    if arguments.problems:
        rows = [row for row in rows if row.verdict is not CheckVerdict.RIGHT]
    warned = _WARNED if CheckVerdict.WARNING in verdicts else 0
    if arguments.json:
        wrong = CheckVerdict.WRONG in verdicts
        answer = {"healthy": not wrong, "service": ready, "apps": as_json(apps)}
        answer["unserved"] = as_json(unserved)
        answer["rows"] = [
            {"verdict": row.verdict.value, "what": row.what, "detail": row.detail} for row in rows
        ]
        print(json.dumps(answer))
        return 1 if wrong else warned
    return print_table(rows) or warned


async def _read(settings: Settings) -> tuple[dict[str, Any] | None, list[AppOverview], Unserved]:
    async with opened(settings) as link:
        ready, history = await readyz(settings), History(settings, link)
        return ready, await history.overviews(), await history.unserved()


async def readyz(settings: Settings) -> dict[str, Any] | None:
    """The body of `/readyz`; None if the service does not answer."""
    host, port = settings.admin_listen
    host = _ANYWHERE.get(host, host)
    host = f"[{host}]" if ":" in host else host
    # Plain HTTP to our own listener needs neither proxies nor certificates.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with httpx.AsyncClient(trust_env=False, verify=context, timeout=_READYZ_SECONDS) as http:
        try:
            answer = await http.get(f"http://{host}:{port}/readyz")
            body = answer.json()
        except (httpx.HTTPError, ValueError):
            return None
    return body if isinstance(body, dict) and "ready" in body else None


def _service_rows(settings: Settings, ready: dict[str, Any] | None, now: float) -> Iterator[Row]:
    if ready is not None:
        yield from service_rows(ready, now)
        return
    host, port = settings.admin_listen
    where = f"http://{host}:{port}/readyz"
    yield Row(CheckVerdict.UNKNOWN, "service", f"does not answer here at {where}")
