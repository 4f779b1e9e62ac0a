"""What an app has done about one event: its readers, receipts and dead letters."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from app.history.app_reader import AppReader, Command, TooLarge, optional, text
from app.history.records import DeadLetter, DeliveredEvent
from app.history.streams import Fields, oldest_first, parse_entries
from backchannel_logout import AppKeys, Reader, Receipt, prove

# How far on from its event a receipt is looked for: a busy app's next few minutes. A handler that
# fails is given up after a minute and a half.
_MAX_RECEIPTS = 5000
_MAX_DEAD_LETTERS = 500


async def with_proof(reading: AppReader, told: DeliveredEvent, now: float) -> DeliveredEvent:
    """The same event, with what the app's readers and listeners say of it.

    A part that the user of Redis may not read counts as empty. Of an app that has written too much
    the proof stays None. Raises `Unreadable`.
    """
    try:
        return await _proven(reading, told, now)
    except TooLarge:
        return told


async def _proven(reading: AppReader, told: DeliveredEvent, now: float) -> DeliveredEvent:
    keys = AppKeys(told.app)
    readers, newest, letters = await reading.query_app_data(
        told.app,
        [
            ("HGETALL", keys.readers),
            # That somebody has read once also shows in the receipt of another event.
            ("XREVRANGE", keys.receipts, "+", "-", "COUNT", 1),
            ("XRANGE", keys.dead_letters, told.id, "+", "COUNT", _MAX_DEAD_LETTERS),
        ],
    )
    receipts = parse_receipts(parse_entries(optional(newest)))
    if receipts:

        async def ask(commands: Sequence[Command]) -> list[Any]:
            return await reading.query_app_data(told.app, commands)

        # One server numbers both streams: no receipt is older than its event.
        async for page in oldest_first(ask, keys.receipts, since=told.id, most=_MAX_RECEIPTS):
            receipts += parse_receipts(page)
    proof = prove(told.id, parse_readers(optional(readers)), receipts, now=now)
    found = (_dead_letter(*entry) for entry in parse_entries(optional(letters)))
    return replace(
        told, proof=proof, dead_letters=tuple(one for one in found if one.event == told.id)
    )


def parse_readers(found: Any) -> list[Reader]:
    """The readers of the answer to ``HGETALL``; those of another release are left out."""
    read = (Reader.from_json(name, value) for name, value in (found or {}).items())
    return [one for one in read if one is not None]


def parse_receipts(found: Iterable[tuple[str, Fields]]) -> list[Receipt]:
    """The receipts of a page; those of another release are left out."""
    read = (Receipt.from_fields(fields) for _, fields in found)  # type: ignore[arg-type]
    return [one for one in read if one is not None]


def _dead_letter(entry_id: str, fields: Fields) -> DeadLetter:
    tries = text(fields.get(b"dl_tries", b""))
    return DeadLetter(
        id=entry_id,
        event=text(fields.get(b"dl_event", b"")),
        listener=text(fields.get(b"dl_listener", b"")),
        tries=int(tries) if tries.isdecimal() and tries.isascii() else None,
        error=text(fields.get(b"dl_error", b"")),
    )
