"""Encodes one call of the script: its arguments, and the whole command in Redis' protocol (RESP).

The common case is encoded from prepared parts. `hiredis` would pack forty arguments, most of them
the same for every logout of a client, which costs a tenth of a logout (docs/performance.md). It
packs everything else, and a test compares the two.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, cast

from hiredis import pack_command

from app.revocation import Heading, Revocation, spelled
from backchannel_logout import Event
from backchannel_logout.contract.event import json_of

# Our clock and Redis' differ by milliseconds on when a jti expires.
_NEARLY_EXPIRED_MS = 2000


class _Parts(NamedTuple):
    """The encoded parts which all revocations of one heading share, in order.

    The rest goes between them: see `Commands._encode`.
    """

    sizes: Sequence[tuple[str, str]]
    """The number of arguments and of event texts, by how many of sid, sub and jti there are."""
    begin: str
    life: str
    limits: str
    first: str
    middle: str
    client_ids: str
    end: str


class _Heads(dict[int, str]):
    """The prefix of an argument, by its length."""

    def __missing__(self, length: int) -> str:
        return f"${length}\r\n"


# A table, joined instead of formatted: a third of the time.
_HEADS = _Heads((length, f"${length}\r\n") for length in range(1024))


def packed(*command: str | bytes | int) -> bytes:
    """Pack any command."""
    as_bytes: bytes = cast("Any", pack_command)(command)  # its stub has only one argument
    return as_bytes


class Commands:
    """Encodes commands for one store. ``sha`` is the script's, ``clock`` returns epoch seconds."""

    def __init__(
        self, sha: str, *, max_len: int, max_age_ms: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._sha = sha
        self._max_len = max_len
        self._max_age_ms = max_age_ms
        self._clock = clock
        self._parts = lru_cache(maxsize=1024)(self._prepare)  # one for each heading

    def packed(self, revocation: Revocation, again: bool = False) -> bytes:
        """``EVALSHA`` with `arguments`, packed."""
        once_ms = self._once_ms(revocation, again)
        if once_ms and not again and len(revocation.heading.issuer_names) == 1:
            text = self._encode(revocation, once_ms)
            if text.isascii():  # otherwise characters and bytes differ
                return text.encode("ascii")
        return packed("EVALSHA", self._sha, *self.arguments(revocation, again))

    def arguments(self, revocation: Revocation, again: bool = False) -> list[str | int]:
        """The script's number of keys, keys and arguments.

        ``again``: it was acknowledged before and may have been lost since.
        """
        names, app = revocation.heading.issuer_names, revocation.heading.keys
        keys = [app.events, *revocation.marker_keys]
        once_ms = self._once_ms(revocation, again)
        if once_ms and (once_key := revocation.once_key) is not None:
            keys.append(once_key)
        arguments: list[str | int] = [
            len(keys), *keys, revocation.cutoff, revocation.heading.life, once_ms,
            self._max_len, self._max_age_ms, app.feed, len(names), int(again),
        ]  # fmt: skip
        own = revocation.event.to_fields()
        for name in names:
            fields = own | {"iss": name}
            json = revocation.json if name == names[0] else json_of(fields)
            arguments += (json, 2 * len(fields), *chain.from_iterable(fields.items()))
        return arguments

    def _once_ms(self, revocation: Revocation, again: bool) -> int:
        """How long the message must be remembered."""
        if revocation.once is None:
            return 0
        once_ms = math.ceil((revocation.once.until - self._clock()) * 1000)
        if once_ms < 0:
            once_ms = 0
        return 0 if again and once_ms < _NEARLY_EXPIRED_MS else once_ms

    def _encode(self, revocation: Revocation, once_ms: int) -> str:
        sizes, begin, life, limits, first, middle, client_ids, end = self._parts(revocation.heading)
        sid, sub, jti, json = revocation.sid, revocation.sub, revocation.jti, revocation.json
        marker, once_key = revocation.marker_keys[0], revocation.once_key or ""
        ms, received_at = str(once_ms), spelled(revocation.received_at)
        cutoff = str(revocation.cutoff)
        cutoff_head = _HEADS[len(cutoff)]
        all_, texts = sizes[(sid is not None) + (sub is not None) + (jti is not None)]
        return "".join(
            (
                all_, begin, _HEADS[len(marker)], marker, "\r\n",
                _HEADS[len(once_key)], once_key, "\r\n", cutoff_head, cutoff, life,
                _HEADS[len(ms)], ms, limits, _HEADS[len(json)], json, texts, first,
                "" if sid is None else f"$3\r\nsid\r\n{_HEADS[len(sid)]}{sid}\r\n",
                "" if sub is None else f"$3\r\nsub\r\n{_HEADS[len(sub)]}{sub}\r\n",
                "$6\r\ncutoff\r\n", cutoff_head, cutoff, middle,
                _HEADS[len(received_at)], received_at, client_ids,
                "" if jti is None else f"$3\r\njti\r\n{_HEADS[len(jti)]}{jti}\r\n",
                end,
            )
        )  # fmt: skip

    def _prepare(self, heading: Heading) -> _Parts:
        fields = Event(
            kind=heading.kind, iss=heading.issuer_names[0], cutoff=0, app=heading.app,
            source=heading.source, received_at=0.0, client_ids=heading.client_ids,
            revoke_offline_access=heading.revoke_offline_access,
        ).to_fields()  # fmt: skip

        def fields_of(*names: str) -> str:
            return "".join(_bulk(name, fields[name]) for name in names if name in fields)

        texts = [2 * (len(fields) + more) for more in range(4)]
        return _Parts(
            sizes=[(f"*{_ARGUMENTS + count}\r\n", "\r\n" + _bulk(str(count))) for count in texts],
            begin=_bulk("EVALSHA", self._sha, "3", heading.keys.events),
            life="\r\n" + _bulk(str(heading.life)),
            limits="\r\n"
            + _bulk(str(self._max_len), str(self._max_age_ms), heading.keys.feed, "1", "0"),
            first=fields_of("v", "kind", "iss"),
            middle="\r\n" + fields_of("app", "source") + _bulk("received_at"),
            client_ids="\r\n" + fields_of("client_ids"),
            end=fields_of("revoke_offline_access"),
        )


# EVALSHA, the script, three keys and their number, and ten before the fields.
_ARGUMENTS = 16


def _bulk(*texts: str) -> str:
    """Encode ASCII texts as bulk strings."""
    return "".join([f"${len(text)}\r\n{text}\r\n" for text in texts])
