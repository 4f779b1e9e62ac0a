"""Checked records: the lines of the journal and of the copy.

    bcl1:<length>:<CRC-32 in hex>:<JSON>

The head makes a record recognizable among other bytes; the checksum shows that it is whole. So a
damaged file still yields every record that was not hit. The digit is the version of the JSON: a
release that changes the JSON writes another one, and reads both. A record of a later version is
whole, and kept for the release that understands it.
"""

import json
import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any

from app.revocation import Heading, Once, Revocation, spelled
from backchannel_logout import Event
from backchannel_logout.contract.event import MalformedEvent, UnknownEvent, to_json

# The length is below `READ_BYTES`, so a head that is none, or damaged, hides no more than one read.
_HEAD = re.compile(rb"bcl\d:(\d{1,5}):([0-9a-f]{8}):")

_VERSION = b"bcl1:"
_MAX_HEAD = len(b"bcl1:99999:00000000:")

READ_BYTES = 128 << 10
"""How much is read at once, in a few milliseconds. No record is nearly as long."""


OTHER_RELEASE = "of another release"
"""Why a whole record cannot be read."""


class DamagedRecord(ValueError):
    """The bytes are not one whole record, or not one of this release."""


def encode(revocation: Revocation, members: str = "") -> bytes:
    """Encode a revocation, behind other ``members`` of the JSON object."""
    once = revocation.once
    message = "null"
    if once is not None:
        jti, sid, sub, until = once
        message = spelled(until)
        if (jti, sid, sub) != (revocation.jti, revocation.sid, revocation.sub):
            message = f"[{encode_basestring(jti)},{_text(sid)},{_text(sub)},{message}]"
    return _framed(
        f'{{{members}"event":{revocation.json}{_shared(revocation.heading)}{message}}}'.encode(
            "utf-8", "surrogatepass"
        )
    )


def encode_members(members: dict[str, Any]) -> bytes:
    """Encode a record that holds something else than a revocation."""
    return _framed(to_json(members).encode())


def _framed(body: bytes) -> bytes:
    return b"bcl1:%d:%08x:%s" % (len(body), zlib.crc32(body), body)


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)


@lru_cache(maxsize=1024)  # as many as there are headings
def _shared(heading: Heading) -> str:
    return f',"names":{to_json(heading.issuer_names)},"life":{heading.life},"once":'


def is_whole(record: bytes) -> bool:
    """Whether the record is as it was written, by whatever release."""
    head = _HEAD.match(record)
    if head is None:
        return False
    body = record[head.end() :]
    return len(body) == int(head[1]) and zlib.crc32(body) == int(head[2], 16)


def members_of(record: bytes) -> dict[str, Any]:
    """Return the JSON object of a record. Raises `DamagedRecord`."""
    head = _HEAD.match(record)
    if head is None or not is_whole(record):
        raise DamagedRecord("not whole")
    if not record.startswith(_VERSION):
        raise DamagedRecord(OTHER_RELEASE)
    try:
        members = json.loads(record[head.end() :])
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise DamagedRecord(OTHER_RELEASE)
    return members


def revocation_of(members: dict[str, Any]) -> Revocation:
    """Return the revocation that a record's members describe. Raises `DamagedRecord`."""
    try:
        event = Event.from_json(json.dumps(members["event"]))
        return Revocation.of(
            event,
            issuer_names=tuple(members["names"]),
            life=int(members["life"]),
            once=_once(members["once"], event),
        )
    except (KeyError, TypeError, ValueError, MalformedEvent, UnknownEvent):
        raise DamagedRecord(OTHER_RELEASE) from None


def decode(record: bytes) -> Revocation:
    """Return the revocation of a record. Raises `DamagedRecord`."""
    return revocation_of(members_of(record))


def _once(encoded: list[Any] | float | None, event: Event) -> Once | None:
    # A number alone: the message names the same session and user as the event, as most do.
    if isinstance(encoded, int | float):
        return Once(event.jti or "", event.sid, event.sub, encoded)
    return None if encoded is None else Once(*encoded)


def records_in(data: bytes) -> Iterator[bytes]:
    """Yield every whole record among these bytes, whatever else they contain."""
    return (record for _, record in scan(data, is_last=True) if record is not None)


def scan(data: bytes, *, is_last: bool) -> Iterator[tuple[int, bytes | None]]:
    """Yield every whole record with its offset; a head inside a whole record does not count.

    Unless ``is_last``, more bytes follow: the last offset is where to read on, without a record.
    """
    at = 0
    while head := _HEAD.search(data, at):
        start, end = head.start(), head.end() + int(head[1])
        if end > len(data) and not is_last:
            yield start, None
            return
        body = data[head.end() : end]
        if len(body) == int(head[1]) and zlib.crc32(body) == int(head[2], 16):
            yield start, data[start:end]
            at = end
        else:
            at = start + 1
    if not is_last:
        yield max(at, len(data) - _MAX_HEAD + 1), None  # a head may be cut in two
