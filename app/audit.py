"""The audit log: who did what to whose sessions, and who looked. A capped stream and log lines.

One entry for each act and each look-up by the admin API or the command line, in the stream
``bcl:v1:audit``. All values are strings, absent when unknown:

    at        epoch seconds, with three decimals
    act       what was done: a word such as ``session.end``. ``keys.fetch`` is also a request to
              every receiver (`app.tokens.asked_fetches`)
    who       who did it: ``oidc:<sub> (<name>)`` for a person who signed in at a provider (the
              person chose the name, the provider the rest), ``account:<app>`` for a user,
              ``admin_token`` or ``admin-api`` for a bearer of the token, or the name that this
              person gave, which cannot look like one of these
    who_iss   for ``oidc:``, the provider that identified the person
    why       the reason that the person gave
    outcome   of an act: a word of `outcome_of`, a phase of a termination, or a fault's code
    iss       the issuer
    apps      the relying apps concerned, as a JSON array
    kind      ``session``, ``user`` or ``all``
    sid_hash  the session, as a keyed hash
    sub_hash  the user, as a keyed hash
    jti       the ``jti`` of the events that it caused in the apps' streams
    peer      the address that the request came from
    request_id

Session and user are keyed hashes, because readers of the audit need not know whose account it is.
With the key and an id, an entry can be matched to its user.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from app.log import new_log
from app.store.operator_streams import AUDIT
from app.telemetry.sanitize import bounded
from backchannel_logout.redis.connection import AsyncClient

log = new_log(__name__)

# About 400 bytes each: 40 MB in Redis. The log has all of them.
MAX_ENTRIES = 100_000

# A person writes a sentence, not a document.
MAX_TEXT_LENGTH = 500


TOKEN_NAME = "admin_token"
"""``who`` after a sign-in with the token, which all operators share."""

API_NAME = "admin-api"
"""``who`` of an API call with the token and without a name."""

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
"""The opposite of `is_reserved`, as a JSON Schema pattern for printable text."""

# A subject has up to 255 characters: OpenID Connect Core 1.0, section 2.
_MAX_SUBJECT = 255
_MAX_NAME = 100


def person_name(sub: str, name: str | None) -> str:
    """``who`` for a person who signed in at a provider.

    The provider sets ``sub``, the person ``name``, which can neither close the parentheses nor
    contain invisible characters.
    """
    # Without blanks and parentheses, the subject ends where the name begins.
    spelled = quote(sub[:_MAX_SUBJECT], safe="!#$&'*+,/:;=?@[]|~")
    shown = printable_name(name)
    return f"oidc:{spelled} ({shown})" if shown else f"oidc:{spelled}"


def printable_name(name: str | None) -> str:
    """A name that a person chose, without invisible characters and parentheses."""
    seen = "".join(char for char in name or "" if char.isprintable() and char not in "()")
    return " ".join(seen.split())[:_MAX_NAME]


def is_reserved(name: str) -> bool:
    """Whether a given name looks like a verified identity."""
    plain = "".join(char for char in name if char.isprintable()).strip().casefold()
    return plain in (TOKEN_NAME, API_NAME) or plain.startswith(_PREFIXES)


def outcome_of(written: Iterable[bool | None]) -> str:
    """A revocation's outcome, from whether it was written in each app; None: Redis did not answer.

    ``done`` in every app, ``failed`` in every app, ``partly`` in some; ``not_known`` if the missing
    answers decide between these.
    """
    results = set(written)
    if {True, False} <= results:
        return "partly"
    if None in results:
        return "not_known"
    return "done" if True in results else "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One entry to write. ``sid`` and ``sub`` are hashed before they leave the process."""

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
    """Writes entries. ``hashed`` returns the keyed hash of a session's or a user's id."""

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
        """Write one entry, first to the log, then to the stream.

        Raises the Redis library's errors; then only the log line exists.
        """
        fields = self.fields(act)
        log.info("audit", **fields)
        await self._client.xadd(AUDIT, fields, maxlen=MAX_ENTRIES, approximate=True)  # type: ignore[arg-type]

    def fields(self, act: Act) -> dict[str, str]:
        """The entry's fields."""
        values = dataclasses.asdict(act)
        sid, sub = values.pop("sid"), values.pop("sub")
        values |= {
            "at": f"{self._clock():.3f}",
            "who": bounded(act.who, MAX_TEXT_LENGTH),
            "apps": json.dumps(list(act.apps)) if act.apps else None,
            "sid_hash": self._hashed(sid) if sid else None,
            "sub_hash": self._hashed(sub) if sub else None,
        }
        return {
            name: value if name == "apps" else value[:MAX_TEXT_LENGTH]
            for name, value in values.items()
            if value is not None
        }
