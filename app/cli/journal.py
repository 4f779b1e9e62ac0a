"""``python -m app journal``: lists, exports and retries the revocations that Redis has not taken.

Works beside a running receiver, which acts on a retry within seconds.
"""

import argparse
import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from app.config.model import Settings
from app.journal.ack_log import AckLog
from app.journal.files import JournalFiles, copy_of, try_lock
from app.journal.inspection import read_entries, read_unreadable, request_retry
from app.journal.journal import Journal
from app.journal.pending_log import Entry, Unreadable
from app.journal.replay import replay
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
    # Errors only: a damaged journal is logged, and nothing else would report it.
    set_up_log(settings, min_level="error")
    path = settings.journal_path
    if path is None:
        print("journal = off: there is none", file=sys.stderr)
        return 1
    journals = JournalFiles(path).all()
    try:
        match arguments.action:
            case "export":
                return _export(journals)
            case "replay":
                return _replay(settings, journals)
            case _:
                return _list(journals)
    except OSError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 1


def _list(journals: list[Path]) -> int:
    waiting = aside = 0
    for path in journals:
        for entry in read_entries(path):
            event = entry.revocation.event
            received = datetime.fromtimestamp(event.received_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            state = f"set aside ({entry.refused})" if entry.refused else "waiting"
            print(f"{path.name}:{entry.id}  {received}  {event.app}  {event.kind}  {state}")
            aside += entry.refused is not None
            waiting += entry.refused is None
    unreadable = 0
    for path in journals:
        for file, record in read_unreadable(path):
            unreadable += 1
            if record is None:
                print(f"{file.name}  damaged; it is kept, what was readable in it was taken")
            else:
                print(f"{file.name}:{record.id}  unreadable: {record.why}; it is kept")
    more = f", {unreadable} unreadable" if unreadable else ""
    print(f"{waiting} waiting, {aside} set aside{more}")
    return 1 if unreadable else 0


def _export(journals: list[Path]) -> int:
    for path in journals:
        for entry in read_entries(path):
            print(json.dumps(_exported(path, entry)))
    unreadable = [it for path in journals for it in read_unreadable(path)]
    for file, record in unreadable:
        print(json.dumps(_exported_raw(file, record)))
    return 1 if unreadable else 0


def _exported(path: Path, entry: Entry) -> dict[str, object]:
    return {
        "file": path.name,
        "id": entry.id,
        "refused": entry.refused,
        "issuer_names": entry.revocation.heading.issuer_names,
        "life": entry.revocation.heading.life,
        "event": entry.revocation.event.members(),
    }


def _exported_raw(file: Path, record: Unreadable | None) -> dict[str, object]:
    """What cannot be read, as it is in the file. A damaged file is only named."""
    if record is None:
        return {"file": file.name, "unreadable": "damaged"}
    raw = record.record.decode("utf-8", "backslashreplace")
    return {"file": file.name, "id": record.id, "unreadable": record.why, "record": raw}


def _replay(settings: Settings, journals: list[Path]) -> int:
    left = 0
    for path in journals:
        lock = try_lock(path)
        if lock is None or settings.embedded:
            put_back = request_retry(path)
            writer = (
                "the receiver that has it open" if lock is None else "the receiver, once it runs,"
            )
            print(f"{path.name}: {put_back} put back; {writer} writes them")
        else:
            with lock:
                waiting, aside = asyncio.run(_replay_here(settings, path))
            print(f"{path.name}: {waiting} still waiting, {aside} set aside")
            left += waiting + aside
        if lock is not None:
            lock.close()
    if not journals:
        print("nothing waits")
    return 1 if left else 0


async def _replay_here(settings: Settings, path: Path) -> tuple[int, int]:
    """Write the entries of a journal that no process has open; returns how many are left."""
    topology = RedisTopology(connect(settings.redis_url.get_secret_value()))
    journal = Journal(path, max_bytes=settings.journal_max_bytes)
    ack_log = AckLog(
        copy_of(path), window=settings.recovery_window, max_bytes=settings.recovery_max_bytes
    )
    try:
        await journal.open()
        ack_log.open()
        await journal.put_back()
        await replay(journal, new_store(settings, topology), ack_log)
        return journal.depth.waiting, journal.depth.set_aside
    finally:
        ack_log.close()
        await journal.close()
        await topology.aclose()
