"""Who did what to whose sessions, and who looked: a capped stream, and a line of the log.

One entry for each act and each look, of the admin API and of the command line alike, in the
stream ``bcl:v1:audit``. All values are strings, absent when unknown:

    at        epoch seconds, with three decimals
    act       what was done: a word such as ``session.end``
    who       who did it: a name that the person gave, or how they came in
    why       the reason that the person gave
    outcome   of an act: a word of `outcome_of`, a step of an end, or the code of a fault
    iss       the issuer
    apps      the relying apps concerned, as a JSON array
    kind      ``session``, ``user`` or ``all``
    sid_hash  the session, as a keyed hash
    sub_hash  the user, as a keyed hash
    jti       by which all events that it has made are found in the apps' streams
    peer      the address that the request came from
    request_id

Session and user are keyed hashes, for those who read the audit need not know whose account it is:
whoever has the key and the id can tell that an entry is of that user.
"""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from app.log import new_log
from backchannel_logout.connection import AsyncClient
from backchannel_logout.keys import VERSION

log = new_log(__name__)

AUDIT_KEY = f"bcl:v{VERSION}:audit"

# Some 400 bytes each: 40 MB in Redis. The log has them all.
MOST_ENTRIES = 100_000

# What a person writes: a sentence, not a document.
LONGEST_TEXT = 500


def outcome_of(written: Iterable[bool | None]) -> str:
    """A revocation's outcome, from what became of it in each app; None: Redis has not answered, so
    it may have been written or not.

    ``done`` in every app, ``failed`` in every app, ``partly``: written in some and not in others;
    ``not_known`` where the answers that are missing decide which of these it is.
    """
    found = set(written)
    if {True, False} <= found:
        return "partly"
    if None in found:
        return "not_known"
    return "done" if True in found else "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is to be written down. ``sid`` and ``sub`` are hashed before they go anywhere."""

    act: str
    who: str
    why: str | None = None
    outcome: str | None = None
    iss: str | None = None
    apps: Sequence[str] = ()
    kind: str | None = None
    sid: str | None = None
    sub: str | None = None
    jti: str | None = None
    peer: str | None = None
    request_id: str | None = None


class Audit:
    """Writes entries. ``hashed`` makes a keyed hash of a session's or a user's id."""

    def __init__(
        self,
        client: AsyncClient,
        hashed: Callable[[str], str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._hashed = hashed
        self._clock = clock

    async def write(self, act: Act) -> None:
        """Write one entry, first to the log. Raises what the Redis library raises, when the stream
        does not take it; the line of the log is then all there is."""
        fields = self.fields(act)
        log.info("audit", **fields)
        await self._client.xadd(AUDIT_KEY, fields, maxlen=MOST_ENTRIES, approximate=True)  # type: ignore[arg-type]

    def fields(self, act: Act) -> dict[str, str]:
        """The entry's fields."""
        found = {
            "at": f"{self._clock():.3f}",
            "act": act.act,
            "who": act.who,
            "why": act.why,
            "outcome": act.outcome,
            "iss": act.iss,
            "apps": json.dumps(list(act.apps)) if act.apps else None,
            "kind": act.kind,
            "sid_hash": self._hashed(act.sid) if act.sid else None,
            "sub_hash": self._hashed(act.sub) if act.sub else None,
            "jti": act.jti,
            "peer": act.peer,
            "request_id": act.request_id,
        }
        return {
            name: value if name == "apps" else value[:LONGEST_TEXT]
            for name, value in found.items()
            if value is not None
        }
