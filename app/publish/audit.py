"""What administrators have done, and at whose sessions they have looked: the stream `AUDIT`.

An entry's fields, all of them strings; what is not known is left out:

    at           epoch seconds, three decimals
    who          an administrator, as far as they are known by name
    act          ``revoke``, ``end_session``, ``look``, ...: a word
    why          in their own words
    outcome      what became of it: a word
    iss, apps    the issuer; the relying apps, as JSON
    jti          by which the events of the act are found in the apps' streams
    sid_hash, sub_hash
                 whose: keyed hashes, for who may read the audit need not know users
    request_id   of the admin API's request

It is capped by number, not by age: nobody outside can make an entry.
"""

import asyncio
import json
from dataclasses import dataclass, fields

from .redis_fault import EXCHANGE_FAULTS, fault_of
from .redis_link import REDIS_SECONDS, RedisLink

AUDIT = "bcl:v1:audit"

MOST_ENTRIES = 100_000
"""About how many the stream holds: some 30 MB in Redis."""

LONGEST_TEXT = 500
"""Characters of ``who`` and of ``why``; the rest is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One entry. ``at`` is epoch seconds."""

    at: float
    who: str
    act: str
    why: str | None = None
    outcome: str | None = None
    iss: str | None = None
    apps: tuple[str, ...] = ()
    jti: str | None = None
    sid_hash: str | None = None
    sub_hash: str | None = None
    request_id: str | None = None

    def to_fields(self) -> dict[str, str]:
        """The fields of the stream's entry."""
        written = {
            "at": f"{self.at:.3f}",
            "apps": json.dumps(self.apps) if self.apps else None,
            "who": self.who[:LONGEST_TEXT],
            "why": self.why[:LONGEST_TEXT] if self.why is not None else None,
        }
        found = {one.name: written.get(one.name, getattr(self, one.name)) for one in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


async def write_audit(link: RedisLink, act: Act) -> str:
    """Add the entry; returns its id. Raises `RedisFault` where Redis has not taken it."""
    pairs = [part for pair in act.to_fields().items() for part in pair]
    command = ("XADD", AUDIT, "MAXLEN", "~", MOST_ENTRIES, "*", *pairs)
    try:
        async with asyncio.timeout(REDIS_SECONDS):
            server = await link.holder(AUDIT)
            added: bytes = await server.execute_command(*command)
    except EXCHANGE_FAULTS as error:
        raise fault_of(error) from error
    return added.decode("ascii")
