"""Records what happened to one token: a log line, counters, and an entry for a refusal."""

import json
import logging
import os
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted

from app.errors import Outage, Reason
from app.log import new_log
from app.publish.writer import Written
from app.revocation import Revocation
from app.telemetry.hashes import KeyedHash
from app.telemetry.logs.line_limit import LineLimit
from app.telemetry.logs.setup import json_line
from app.telemetry.metrics.counters import Counters
from app.telemetry.refusals import PROVEN, Refusal, Refusals
from app.tokens.logout_token import LogoutToken
from app.tokens.signed_jwt import UnverifiedJwt

LOGGER = "app.backchannel"  # part of the documented log format
EVENT = "logout"

log = new_log(LOGGER)

_ACCEPTED = frozenset(Written)

# The longest valid claim. Refused tokens may have longer ones, which are cut.
_MAX_SUBJECT = 255


@dataclass(slots=True, kw_only=True)
class Reporter:
    """Where every attempt of the process is reported to.

    ``keyed_hash`` is None until the key is known; until then users and sessions are left out.
    ``subjects`` logs them in plain text instead.
    """

    keyed_hash: KeyedHash | None = None
    subjects: bool = False
    refusals: Refusals | None = None
    counters: Counters | None = None
    line_limit: LineLimit | None = None


def new_request_id() -> str:
    """16 random characters: a count would tell strangers how many requests arrive."""
    return os.urandom(8).hex()


# Longer than any proxy's id, without characters that affect a log or a header.
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{1,64}")


def well_formed(request_id: str) -> str | None:
    """The id of a proxy in front, or None if it is malformed."""
    return request_id if _WELL_FORMED.fullmatch(request_id) else None


@dataclass(slots=True, eq=False)
class AttemptRecord:
    """What is known of one logout token, reported once. Never holds the token itself."""

    _reporter: Reporter
    _began: float
    """A time of ``time.perf_counter``."""
    _request_id: str | None = None
    issuer: str | None = None
    """The configured issuer that the token names, once known."""
    jwt: UnverifiedJwt | None = None
    token: LogoutToken | None = None
    """The valid token."""
    revocations: list[Revocation] | None = None
    iat: object = None
    """The claim, once the signature is verified; the token may still be invalid."""
    arrived_at: float = 0.0
    """Epoch seconds, set with ``iat``."""
    validated_at: float | None = None
    """A time of ``time.perf_counter``."""
    outcome: str = "-"
    reason: str | None = None
    parked: float | None = None
    """How many seconds the token waited for a key."""
    trace_id: str | None = None

    @property
    def client_ids(self) -> tuple[str, ...]:
        """The configured clients in ``aud`` of a valid token."""
        return () if self.token is None else self.token.client_ids

    @property
    def request_id(self) -> str:
        """Connects the log line, the response and the refusal."""
        if self._request_id is None:
            self._request_id = new_request_id()
        return self._request_id

    def refused(self, reason: Reason) -> None:
        """Report a token that can never be valid."""
        self.report("refused", reason)
        self._add_refusal(reason)

    def unavailable(self, outage: Outage) -> None:
        """Report a token that cannot be processed now. Operators also see those that wait for
        keys among the refusals."""
        self.report("unavailable", outage)
        if outage is Outage.KEYS_UNAVAILABLE:
            self._add_refusal(outage)

    def _add_refusal(self, reason: Reason | Outage) -> None:
        if self._reporter.refusals is not None:
            refusal = Refusal(time.time(), reason, self.request_id, self.issuer, self.jwt)
            self._reporter.refusals.add(refusal, self._reporter.keyed_hash)

    def report(self, outcome: str, reason: str | None = None) -> None:
        """Count the outcome and log it."""
        self.outcome, self.reason = outcome, reason
        level = logging.INFO if outcome in _ACCEPTED else logging.WARNING
        seconds = time.perf_counter() - self._began
        if self._reporter.counters is not None:
            self._count(self._reporter.counters, outcome, reason, seconds)
        if level != logging.INFO and not self._within_limit(outcome, reason):
            return
        members = self._json_members(outcome, reason, seconds * 1000)
        line = json_line()
        if line is not None:
            line.write(level, LOGGER, EVENT, members)
        else:
            log.log(level, EVENT, **json.loads(f"{{{members[1:]}}}"))

    def _within_limit(self, outcome: str, reason: str | None) -> bool:
        limit = self._reporter.line_limit
        if limit is None or (self.token is not None and outcome != "refused"):
            return True
        verified = self.token is not None or reason in PROVEN
        return limit.takes(outcome, reason, self.issuer, verified=verified)

    def _count(self, counters: Counters, outcome: str, reason: str | None, seconds: float) -> None:
        client_ids, validated_at = self.client_ids, self.validated_at
        if self.iat is not None and self.issuer is not None:
            counters.signed(self.issuer, self.iat, self.arrived_at)
        if self.parked is None:
            counters.token(
                self.issuer, client_ids, outcome, reason, seconds=seconds,
                validated_after=None if validated_at is None else validated_at - self._began,
            )  # fmt: skip
        elif self.issuer is not None:  # its 503 was counted when it arrived
            counters.parked_settled(self.issuer, outcome)

    def _json_members(self, outcome: str, reason: str | None, ms: float) -> str:
        """The fields of the log line as JSON members, each with a comma in front.

        Written by hand: a dict and an encoder cost 4 us more per logout, some 5 % of it.
        """
        text = f',"outcome":"{outcome}"'
        if reason is not None:
            text += f',"reason":"{reason}"'
        text += f',"request_id":"{self.request_id}"'
        if self.issuer is not None:
            text += f',"issuer":{_configured(self.issuer)}'
        if self.token is not None:
            text += f',"clients":{_configured(self.token.client_ids)}'
        if self.revocations:
            text += f',"kind":"{self._kind(self.revocations)}"'
        text += f',"ms":{ms:.1f}{self._subjects()}'
        if self.trace_id is not None:
            text += f',"trace_id":"{self.trace_id}"'
        if self.parked is not None:
            text += f',"parked_s":{self.parked:.1f}'
        return text

    def _kind(self, revocations: list[Revocation]) -> str:
        """Several kinds where the clients differ in ``both_claims``."""
        if len(revocations) == 1:
            return revocations[0].heading.kind  # a str; `value` is a Python function, and slower
        return ",".join(sorted({revocation.kind.value for revocation in revocations}))

    def _subjects(self) -> str:
        """The session and the user; of a refused token what it claims."""
        sid: object
        sub: object
        if self.token is not None:
            sid, sub = self.token.sid, self.token.sub
        elif self.jwt is not None:
            unverified = self.jwt.unverified_claims
            sid, sub = unverified.get("sid"), unverified.get("sub")
        else:
            return ""
        text, reporter = "", self._reporter
        for name, value in (("sid", sid), ("sub", sub)):
            if not isinstance(value, str):
                continue
            if reporter.subjects:
                text += f',"{name}":{quoted(value[:_MAX_SUBJECT])}'
            elif reporter.keyed_hash is not None:
                text += f',"{name}_hash":"{reporter.keyed_hash(value)}"'
        return text


@lru_cache(maxsize=1024)
def _configured(value: str | tuple[str, ...]) -> str:
    """A value of the settings as JSON. Cached, because every token repeats it."""
    return json.dumps(value, separators=(",", ":"))
