"""``python -m app journal``: what waits for Redis, or was refused by it; and try it again.

Works beside a running receiver: that one sees within seconds what was put back.
"""

import argparse
import asyncio
import json
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

from app.config.model import Settings
from app.journal.ack_log import AckLog
from app.journal.files import JournalFiles, copy_of, try_lock
from app.journal.journal import Journal
from app.journal.replay import replay
from app.journal.table import Entry, put_back_in, read_entries
from app.publish.publisher import new_store
from app.store.topology import RedisTopology, connect
from app.telemetry.logs.setup import set_up_log

HELP = "list, replay or export the revocations that Redis has not taken"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("list", "replay", "export"),
        help="list: a line each, without users; replay: try all again, also those set aside; "
        "export: everything as JSON lines, with subjects and session ids",
    )


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    # That a file was damaged, say: nobody else would hear it.
    set_up_log(settings, min_level="error")
    path = settings.journal_path
    if path is None:
        print("journal = off: there is none", file=sys.stderr)
        return 1
    files = JournalFiles(path).all()
    try:
        match arguments.action:
            case "export":
                return _export(files)
            case "replay":
                return _replay(settings, files)
            case _:
                return _list(files)
    except (sqlite3.Error, OSError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1


def _list(files: list[Path]) -> int:
    waiting = aside = 0
    for file in files:
        for entry in read_entries(file):
            event = entry.revocation.event
            received = datetime.fromtimestamp(event.received_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            state = f"set aside ({entry.refused})" if entry.refused else "waiting"
            print(f"{file.name}:{entry.id}  {received}  {event.app}  {event.kind}  {state}")
            aside += entry.refused is not None
            waiting += entry.refused is None
    print(f"{waiting} waiting, {aside} set aside")
    return 0


def _export(files: list[Path]) -> int:
    for file in files:
        for entry in read_entries(file):
            print(json.dumps(_exported(file, entry)))
    return 0


def _exported(file: Path, entry: Entry) -> dict[str, object]:
    return {
        "file": file.name,
        "id": entry.id,
        "refused": entry.refused,
        "issuer_names": entry.revocation.issuer_names,
        "life": entry.revocation.life,
        "event": entry.revocation.event.members(),
    }


def _replay(settings: Settings, files: list[Path]) -> int:
    left = 0
    for file in files:
        lock = try_lock(file)
        if lock is None or settings.embedded:
            put_back = put_back_in(file)
            who = "the receiver that has it open" if lock is None else "the receiver, once it runs,"
            print(f"{file.name}: {put_back} put back; {who} writes them")
        else:
            with lock:
                waiting, aside = asyncio.run(_replay_here(settings, file))
            print(f"{file.name}: {waiting} still waiting, {aside} set aside")
            left += waiting + aside
        if lock is not None:
            lock.close()
    if not files:
        print("nothing waits")
    return 1 if left else 0


async def _replay_here(settings: Settings, file: Path) -> tuple[int, int]:
    """Write the entries of a journal that no process has open; returns what is left."""
    link = RedisTopology(connect(settings.redis_url.get_secret_value()))
    journal = Journal(file, max_bytes=settings.journal_max_bytes)
    accepted = AckLog(
        copy_of(file), window=settings.recovery_window, max_bytes=settings.recovery_max_bytes
    )
    try:
        await journal.open()
        accepted.open()
        await journal.put_back()
        await replay(journal, new_store(settings, link), accepted.add)
        return journal.depth.waiting, journal.depth.set_aside
    finally:
        accepted.close()
        await journal.close()
        await link.aclose()
