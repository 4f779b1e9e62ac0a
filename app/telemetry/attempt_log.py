"""What happened to one token: in one line of the log, in numbers (`counters`), and where it was
refused, for operators to look up (`refusals`)."""

import json
import logging
import os
import re
import time
from binascii import b2a_hex
from collections.abc import Iterator
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

from app.errors import Outage, Reason
from app.log import new_log
from app.publish.writer import Written
from app.revocation import Revocation
from app.telemetry.hashes import KeyedHash
from app.telemetry.logs.line_limit import LineLimit
from app.telemetry.logs.setup import JsonLine, json_line
from app.telemetry.metrics.counters import Counters
from app.telemetry.refusals import PROVEN, Refusal, Refusals
from app.tokens.logout_token import LogoutToken
from app.tokens.signed_jwt import UnverifiedJwt

LOGGER = "app.backchannel"  # as it has always been found
EVENT = "logout"

log = new_log(LOGGER)

_GOOD = frozenset(Written)

# What a claim may hold beyond what is allowed is not told.
_LONGEST_SUBJECT = 255


class Reporter:
    """What every story of this process needs to be told. ``hashed`` is None until the key is known:
    users and sessions are not told meanwhile."""

    def __init__(
        self,
        *,
        hashed: KeyedHash | None = None,
        subjects: bool = False,
        refusals: Refusals | None = None,
        counters: Counters | None = None,
        line_limit: LineLimit | None = None,
    ) -> None:
        self.counters = counters
        self.hashed = hashed
        self.subjects = subjects
        """Tell users and sessions themselves."""
        self.refusals = refusals
        self.line_limit = line_limit


def _drawn_ids() -> Iterator[str]:
    """16 random characters each. An answer has one, so a count would tell strangers how many
    requests come. Many are drawn at once: a call to the kernel for each costs more than the id."""
    while True:
        drawn = b2a_hex(os.urandom(4096)).decode()
        for at in range(0, len(drawn), 16):
            yield drawn[at : at + 16]


_IDS = _drawn_ids()


def new_request_id() -> str:
    return next(_IDS)


# Of a proxy's id: long enough for any, and nothing that a log or a header could trip over.
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")


def well_formed(request_id: str) -> str | None:
    """An id that somebody else has given, if it is one."""
    return request_id if _WELL_FORMED.fullmatch(request_id) else None


class AttemptRecord:
    """What is known of one token, the one log line of it and its count: never what it was."""

    __slots__ = (
        "_began",
        "_reporter",
        "_request_id",
        "_verified",
        "issuer",
        "jwt",
        "outcome",
        "parked",
        "reason",
        "revocations",
        "token",
        "trace_id",
    )

    def __init__(self, reporter: Reporter, began: float, request_id: str | None = None) -> None:
        """``began`` is by ``time.perf_counter``."""
        self._reporter = reporter
        self._began = began
        self._request_id = request_id
        self._verified: float | None = None
        """After how many seconds all was proven."""
        self.issuer: str | None = None
        """The configured one that it names, from when that is known."""
        self.jwt: UnverifiedJwt | None = None
        self.token: LogoutToken | None = None
        """From when all is proven."""
        self.revocations: list[Revocation] | None = None
        self.outcome = "-"
        self.reason: str | None = None
        """Why it was refused or could not be taken, from when that has been told."""
        self.parked: float | None = None
        """How long it has waited for a key, in seconds."""
        self.trace_id: str | None = None

    @property
    def client_ids(self) -> tuple[str, ...]:
        """Those of our clients that it was for, from when that is proven."""
        return () if self.token is None else self.token.client_ids

    @property
    def request_id(self) -> str:
        """By which the line, the answer and the refusal are found together."""
        if self._request_id is None:
            self._request_id = new_request_id()
        return self._request_id

    def signed(self, iat: object, arrived_at: float) -> None:
        """The signature is good; ``iat`` is the token's, ``arrived_at`` epoch seconds."""
        if self._reporter.counters is not None and self.issuer is not None:
            self._reporter.counters.signed(self.issuer, iat, arrived_at)

    def judged(self) -> None:
        """All is proven; what follows is the write."""
        self._verified = time.perf_counter() - self._began

    def refused(self, reason: Reason) -> None:
        """Tell that it can never be valid."""
        self.tell("refused", reason)
        self._note(reason)

    def unavailable(self, outage: Outage) -> None:
        """Tell that it could not be taken now. One that waits for keys is noted for operators."""
        self.tell("unavailable", outage)
        if outage is Outage.KEYS_UNAVAILABLE:
            self._note(outage)

    def _note(self, reason: Reason | Outage) -> None:
        if self._reporter.refusals is not None:
            refusal = Refusal(time.time(), reason, self.request_id, self.issuer, self.jwt)
            self._reporter.refusals.add(refusal, self._reporter.hashed)

    def tell(self, outcome: str, reason: str | None = None) -> None:
        """Tell what has become of it; once."""
        self.outcome, self.reason = outcome, reason
        level = logging.INFO if outcome in _GOOD else logging.WARNING
        seconds = time.perf_counter() - self._began
        ms = seconds * 1000
        if self._reporter.counters is not None:
            self._count(self._reporter.counters, outcome, reason, seconds)
        if level != logging.INFO and not self._may_be_logged(outcome, reason):
            return
        line = json_line()
        if line is None:
            log.log(level, EVENT, **self._fields(outcome, reason, ms))
        elif self.token is not None and reason is None and not self._reporter.subjects:
            self._tell_shortly(self.token, line, level, outcome, ms)
        else:
            members = self._fields(outcome, reason, ms).items()
            line.tell(level, LOGGER, EVENT, "".join([_member(*one) for one in members]))

    def _may_be_logged(self, outcome: str, reason: str | None) -> bool:
        limit = self._reporter.line_limit
        if limit is None or (self.token is not None and outcome != "refused"):
            return True
        verified = self.token is not None or reason in PROVEN
        return limit.takes(outcome, reason, self.issuer, verified=verified)

    def _count(self, counters: Counters, outcome: str, reason: str | None, seconds: float) -> None:
        if self.parked is None:
            counters.token(
                self.issuer, self.client_ids, outcome, reason,
                seconds=seconds, verified=self._verified,
            )  # fmt: skip
        elif self.issuer is not None:  # it was answered, and counted, when it came
            counters.parked_settled(self.issuer, outcome)

    def _tell_shortly(
        self, token: LogoutToken, line: JsonLine, level: int, outcome: str, ms: float
    ) -> None:
        """What nearly all lines say, spelled without a dict: see `_fields`."""
        who, hashed = "", self._reporter.hashed
        if hashed is not None:
            if token.sid is not None:
                who = f',"sid_hash":"{hashed(token.sid)}"'
            if token.sub is not None:
                who += f',"sub_hash":"{hashed(token.sub)}"'
        if self.trace_id is not None:
            who += f',"trace_id":"{self.trace_id}"'
        if self.parked is not None:
            who += f',"parked_s":{self.parked:.1f}'
        line.tell(
            level,
            LOGGER,
            EVENT,
            f',"outcome":"{outcome}","request_id":"{self.request_id}"'
            f',"issuer":{_spelled(self.issuer)},"clients":{_spelled(token.client_ids)}'
            f',"kind":"{self._kind()}","ms":{ms:.1f}{who}',
        )

    def _fields(self, outcome: str, reason: str | None, ms: float) -> dict[str, Any]:
        return {
            "outcome": str(outcome),
            "reason": None if reason is None else str(reason),
            "request_id": self.request_id,
            "issuer": self.issuer,
            "clients": self.client_ids or None,
            "kind": self._kind(),
            "ms": round(ms, 1),
            **self._who(),
            "trace_id": self.trace_id,
            "parked_s": None if self.parked is None else round(self.parked, 1),
        }

    def _kind(self) -> str | None:
        """Several only where a client asks for the user's sessions, and another does not."""
        if not self.revocations:
            return None
        if len(self.revocations) == 1:
            return self.revocations[0].heading.kind  # a string; its `value` is a function in Python
        return ",".join(sorted({one.kind.value for one in self.revocations}))

    def _who(self) -> dict[str, str]:
        """The session and the user, of a refused token as it claims them; hashed as a rule."""
        if self.token is not None:
            claims: dict[str, Any] = {"sid": self.token.sid, "sub": self.token.sub}
        elif self.jwt is not None:
            claims = self.jwt.unverified_claims
        else:
            return {}
        found = {name: claims[name] for name in ("sid", "sub") if isinstance(claims.get(name), str)}
        if self._reporter.subjects:
            return {name: value[:_LONGEST_SUBJECT] for name, value in found.items()}
        if (hashed := self._reporter.hashed) is None:
            return {}
        return {f"{name}_hash": hashed(value) for name, value in found.items()}


def _member(name: str, value: Any) -> str:
    """One of an object's members, as the long way spells it; nothing for None."""
    if value is None:
        return ""
    text = quoted(value) if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return f',"{name}":{text}'


@lru_cache(maxsize=1024)
def _spelled(value: str | tuple[str, ...] | None) -> str:
    """What is of the settings, in JSON: the same for every token."""
    return json.dumps(value, separators=(",", ":"))
