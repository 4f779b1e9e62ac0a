"""A revocation as a line of bytes that can be trusted again later, or found in a damaged file.

    bcl1:<length>:<CRC-32 in hex>:<JSON>

The head makes a record recognizable among other bytes, the sum says whether it is whole.
"""

import json
import mmap
import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any

from app.revocation import Heading, Once, Revocation, spelled
from backchannel_logout import Event
from backchannel_logout.contract.event import MalformedEvent, UnknownEvent, to_json

_HEAD = re.compile(rb"bcl1:(\d{1,7}):([0-9a-f]{8}):")


class DamagedRecord(ValueError):
    """These bytes are no whole record."""


def encode(revocation: Revocation) -> bytes:
    """The record of a revocation."""
    once = revocation.once
    # Not in ASCII: short enough for one page of the journal, whatever the claims are.
    message = "null"
    if once is not None:
        jti, sid, sub, until = once
        message = spelled(until)
        if (jti, sid, sub) != (revocation.jti, revocation.sid, revocation.sub):
            message = f"[{encode_basestring(jti)},{_text(sid)},{_text(sub)},{message}]"
    body = f'{{"event":{revocation.json}{_shared(revocation.heading)}{message}}}'.encode(
        "utf-8", "surrogatepass"
    )
    return b"bcl1:%d:%08x:%s" % (len(body), zlib.crc32(body), body)


def _text(value: str | None) -> str:
    """A string as `to_json` spells it, without the encoder that it makes at each call."""
    return "null" if value is None else encode_basestring(value)


@lru_cache(maxsize=1024)  # as many as there are headings
def _shared(heading: Heading) -> str:
    return f',"names":{to_json(heading.issuer_names)},"life":{heading.life},"once":'


def decode(record: bytes) -> Revocation:
    """The revocation of a record. Raises `DamagedRecord`."""
    head = _HEAD.match(record)
    if head is None:
        raise DamagedRecord("no head")
    body = record[head.end() :]
    if len(body) != int(head[1]) or zlib.crc32(body) != int(head[2], 16):
        raise DamagedRecord("not whole")
    try:
        members = json.loads(body)
        event = Event.from_json(json.dumps(members["event"]))
        return Revocation.of(
            event,
            issuer_names=tuple(members["names"]),
            life=int(members["life"]),
            once=_once(members["once"], event),
        )
    except (KeyError, TypeError, ValueError, MalformedEvent, UnknownEvent):
        raise DamagedRecord("of another release") from None


def _once(spelled_: list[Any] | float | None, event: Event) -> Once | None:
    """A number where the message names whom the event does, as it mostly is."""
    if isinstance(spelled_, int | float):
        return Once(event.jti or "", event.sid, event.sub, spelled_)
    return None if spelled_ is None else Once(*spelled_)


def records_in(data: bytes | mmap.mmap) -> Iterator[bytes]:
    """Every whole record among these bytes, whatever else they hold."""
    for head in _HEAD.finditer(data):
        end = head.end() + int(head[1])
        body = data[head.end() : end]
        if len(body) == int(head[1]) and zlib.crc32(body) == int(head[2], 16):
            yield data[head.start() : end]
