"""Who did what to whose sessions, and who looked: a capped stream, and a line of the log.

One entry for each act and each look, of the admin API and of the command line alike, in the
stream ``bcl:v1:audit``. All values are strings, absent when unknown:

    at        epoch seconds, with three decimals
    act       what was done: a word such as ``session.end``
    who       who did it: ``oidc:<sub> (<name>)`` of a person who signed in at a provider (the
              person chose the name, the provider the rest), ``account:<app>`` of a user,
              ``admin_token`` or ``admin-api`` of somebody who has shown the token, or the name that
              such a person gave, which cannot look like one of these
    who_iss   the provider that says who it is, of ``oidc:``
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
from urllib.parse import quote

from app.log import new_log
from app.telemetry.sanitize import bounded
from backchannel_logout.contract.keys import VERSION
from backchannel_logout.redis.connection import AsyncClient

log = new_log(__name__)

AUDIT_KEY = f"bcl:v{VERSION}:audit"

# Some 400 bytes each: 40 MB in Redis. The log has them all.
MAX_ENTRIES = 100_000

# What a person writes: a sentence, not a document.
MAX_TEXT_LENGTH = 500


TOKEN_NAME = "admin_token"
"""``who`` after a sign-in with the token, which all operators share."""

API_NAME = "admin-api"
"""``who`` of somebody who uses the API with the token and gives no name."""

RESERVED_NAME = (
    "a name may not look like one that was proven: oidc:, account:, admin_token, admin-api"
)

_PREFIXES = ("oidc:", "account:")


def _any_case(word: str) -> str:
    return "".join(f"[{char}{char.upper()}]" if char.isalpha() else char for char in word)


FREE_NAME = "^(?!{blank}(?:{prefixes}|(?:{names}){blank}$))".format(
    blank=r"\s*",
    prefixes="|".join(map(_any_case, _PREFIXES)),
    names="|".join(map(_any_case, (TOKEN_NAME, API_NAME))),
)
"""`is_reserved`, the other way round, as a pattern of JSON Schema for text that is printable."""

# Of a subject: 255 characters in OpenID Connect Core 1.0, section 2.
_MAX_SUBJECT = 255
_MAX_NAME = 100


def person_name(sub: str, name: str | None) -> str:
    """``who`` of a person of a provider. ``sub`` is the provider's word, ``name`` the person's: it
    can neither end the parentheses nor hide behind characters that are not seen."""
    # Without blanks and parentheses the subject ends where the name begins.
    spelled = quote(sub[:_MAX_SUBJECT], safe="!#$&'*+,/:;=?@[]|~")
    shown = printable_name(name)
    return f"oidc:{spelled} ({shown})" if shown else f"oidc:{spelled}"


def printable_name(name: str | None) -> str:
    """A name that a person chose, without what is not seen, and without parentheses."""
    seen = "".join(char for char in name or "" if char.isprintable() and char not in "()")
    return " ".join(seen.split())[:_MAX_NAME]


def is_reserved(name: str) -> bool:
    """Whether a name that somebody gives would look like one that was proven."""
    plain = "".join(char for char in name if char.isprintable()).strip().casefold()
    return plain in (TOKEN_NAME, API_NAME) or plain.startswith(_PREFIXES)


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
    who_iss: str | None = None
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
        await self._client.xadd(AUDIT_KEY, fields, maxlen=MAX_ENTRIES, approximate=True)  # type: ignore[arg-type]

    def fields(self, act: Act) -> dict[str, str]:
        """The entry's fields."""
        found = {
            "at": f"{self._clock():.3f}",
            "act": act.act,
            "who": bounded(act.who, MAX_TEXT_LENGTH),
            "who_iss": act.who_iss,
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
            name: value if name == "apps" else value[:MAX_TEXT_LENGTH]
            for name, value in found.items()
            if value is not None
        }
