"""What an app has done about one event: its readers, receipts and dead letters."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from app.history.app_reader import AppReader, Command, TooLarge, optional, text
from app.history.records import DeadLetter, DeliveredEvent
from app.history.streams import Fields, oldest_first, parse_entries
from backchannel_logout import AppKeys, Reader, Receipt, prove

# Receipts examined after the event: a busy app's next few minutes. A failing handler is given up
# after a minute and a half.
_MAX_RECEIPTS = 5000
_MAX_DEAD_LETTERS = 500


async def with_proof(reader: AppReader, delivered: DeliveredEvent, now: float) -> DeliveredEvent:
    """The event with what the app's readers and listeners report about it.

    Parts that our Redis user may not read count as empty. If the app has written too much to be
    read, the proof stays None. Raises `Unreadable`.
    """
    keys, ask = AppKeys(delivered.app), partial(reader.query_app_data, delivered.app)
    commands: list[Command] = [
        ("HGETALL", keys.readers),
        # A receipt of any event shows that a listener has run.
        ("XREVRANGE", keys.receipts, "+", "-", "COUNT", 1),
        ("XRANGE", keys.dead_letters, delivered.id, "+", "COUNT", _MAX_DEAD_LETTERS),
    ]
    try:
        readers, newest, letters = await ask(commands)
        receipts = parse_receipts(parse_entries(optional(newest)))
        if receipts:
            # One server assigns the ids of both streams, so no receipt is older than its event.
            pages = oldest_first(ask, keys.receipts, since=delivered.id, limit=_MAX_RECEIPTS)
            async for page in pages:
                receipts += parse_receipts(page)
    except TooLarge:
        return delivered
    proof = prove(delivered.id, parse_readers(optional(readers)), receipts, now=now)
    dead_letters = (_dead_letter(*entry) for entry in parse_entries(optional(letters)))
    return replace(
        delivered,
        proof=proof,
        dead_letters=tuple(one for one in dead_letters if one.event == delivered.id),
    )


def parse_readers(reports: Any) -> list[Reader]:
    """The readers in an ``HGETALL`` answer, without those of unknown releases."""
    read = (Reader.from_json(name, value) for name, value in (reports or {}).items())
    return [reader for reader in read if reader is not None]


def parse_receipts(entries: Iterable[tuple[str, Fields]]) -> list[Receipt]:
    """The receipts of a page, without those of unknown releases."""
    read = (Receipt.from_fields(fields) for _, fields in entries)  # type: ignore[arg-type]
    return [receipt for receipt in read if receipt is not None]


def _dead_letter(entry_id: str, fields: Fields) -> DeadLetter:
    tries = text(fields.get(b"dl_tries", b""))
    return DeadLetter(
        id=entry_id,
        event=text(fields.get(b"dl_event", b"")),
        listener=text(fields.get(b"dl_listener", b"")),
        tries=int(tries) if tries.isdecimal() and tries.isascii() else None,
        error=text(fields.get(b"dl_error", b"")),
    )
