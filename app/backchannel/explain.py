"""What a logout token is to the receiver, rule by rule: what was there, and what is configured.

For the command `explain` and the console. Says nothing of whether the token was seen before, and
writes nothing.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.errors import OUTAGE_SENTENCES, SENTENCES, DependencyUnavailable, Reason, TokenRefused
from app.formatting import YEAR_9999, fetch_fault, moment, shown
from app.tokens import logout_token, signed_jwt
from app.tokens.encrypted_jwt import Opener, is_encrypted
from app.tokens.fetch import new_client
from app.tokens.logout_token import Judging
from app.tokens.provider_keys import ProviderKeys
from app.tokens.token_kind import other_kind

Fault = TokenRefused | DependencyUnavailable

WAS_VALID = "it was valid at"
"""The note of a token that only its age refuses now: when it was made, it would have been taken."""


class Mark(StrEnum):
    """What a line is."""

    PASS = "pass"
    FAIL = "FAIL"
    SKIP = "-"
    NOTE = ""
    """It belongs to the line before."""


class ExplainLine(NamedTuple):
    """``name`` is that of the rule, or of what a note is about."""

    mark: Mark
    name: str
    said: str


@dataclass(slots=True)
class _Report:
    """Tells a line for each rule and remembers the first fault: it is the receiver's answer."""

    tell: Callable[[ExplainLine], None]
    fault: Fault | None = None

    def rule(self, name: str, check: Callable[[], Any], found: str = "") -> Any:
        """Run one check; None when it failed."""
        try:
            result = check()
        except TokenRefused as refusal:
            self.fail(name, refusal, found)
            return None
        self.tell(ExplainLine(Mark.PASS, name, found))
        return True if result is None else result

    def fail(self, name: str, fault: Fault, found: str = "") -> None:
        self.fault = self.fault or fault
        sentence = (
            SENTENCES[fault.reason]
            if isinstance(fault, TokenRefused)
            else OUTAGE_SENTENCES[fault.outage]
        )
        self.tell(ExplainLine(Mark.FAIL, name, f"{fault}: {sentence}"))
        if found:
            self.note("found", found)

    def skip(self, name: str, why: str) -> None:
        self.tell(ExplainLine(Mark.SKIP, name, f"not judged: {why}"))

    def note(self, what: str, said: str) -> None:
        self.tell(ExplainLine(Mark.NOTE, what, said))


async def explain(
    settings: Settings,
    token: bytes,
    tell: Callable[[ExplainLine], None],
    at: float | None = None,
) -> Fault | None:
    """Tell every rule as of ``at``, else as of now; returns the first fault.

    Fetches the issuer's keys anew. Never tells the signature.
    """
    report = _Report(tell)
    issuers = {name: issuer for issuer in settings.signing_issuers for name in issuer.names}
    encrypted = is_encrypted(token)
    if encrypted:
        inner = _explain_encryption(report, token, Opener(issuers))
        if inner is None:
            return report.fault
        token = inner
    jwt = report.rule("shape", partial(signed_jwt.parse, token), _segments(token))
    if jwt is None:
        return report.fault
    header, claims = jwt.unverified_header, jwt.unverified_claims
    if (kind := other_kind(header, claims)) is not None:
        report.note("this seems to be", f"{kind}, not the logout token that a provider POSTs")
    issuer = report.rule(
        "iss", lambda: signed_jwt.issuer_of(jwt, issuers), _members(claims, ["iss"])
    )
    if issuer is None:
        report.note("configured", _listed(sorted(issuers)))
        return report.fault
    if issuer.encryption == "required" and not encrypted:
        report.fail("encrypted", TokenRefused(Reason.ENCRYPTION_REQUIRED))
    if report.rule(
        "header",
        lambda: signed_jwt.check_header(jwt, issuer, logout_token.TYPS),
        _members(header, ["alg", "typ", "kid", "crit"]),
    ):
        await _explain_signature(report, jwt, issuer)
    else:
        report.note("configured", f"algorithms {_listed(issuer.algorithms)}")
        for client in issuer.clients:
            if client.algorithms:
                report.note(client.client_id, f"algorithms {_listed(client.algorithms)}")
        report.skip("signature", "the header is refused")
    _explain_claims(report, claims, issuer, at)
    return report.fault


def _segments(token: bytes) -> str:
    """How many there are, and what an unsigned token says of itself."""
    segments = token.split(b".")
    found = f"{len(token)} bytes, {len(segments)} segments"
    if len(segments) != 3 or segments[2]:
        return found
    found += "; the third, the signature, is empty"
    try:
        alg = signed_jwt.strict_header(segments[0]).get("alg")
    except TokenRefused:
        return found
    return f"{found}; alg {shown(alg)}"


def _explain_encryption(report: _Report, token: bytes, opener: Opener) -> bytes | None:
    """The signed token inside; None where it can not be had."""
    try:
        header = signed_jwt.strict_header(token.partition(b".")[0])
    except TokenRefused:
        header = {}
    found = _members(header, ["alg", "enc", "kid", "cty", "zip", "crit"])
    inner: bytes | None = report.rule("encrypted", partial(opener.open, token), found)
    if inner is None and opener.keys:
        report.note("configured", _listed(f"{key.kid} ({key.alg})" for key in opener.keys))
    return inner


async def _explain_signature(
    report: _Report, jwt: signed_jwt.UnverifiedJwt, issuer: IssuerSettings
) -> None:
    async with new_client() as client:
        keys = ProviderKeys(issuer, client)
        await keys.refresh()
        try:
            await signed_jwt.verify(jwt, issuer, keys, arrived_at=time.time())
        except (TokenRefused, DependencyUnavailable) as fault:
            state, current = keys.state(), keys.current()
            report.fail("signature", fault)
            if state.last_error is not None:
                said = fetch_fault(state.last_error, state.last_detail)
                report.note("the issuer's keys", said)
            elif current is not None:
                report.note("the issuer's keys", _listed(key.kid for key in current.keys))
        else:
            report.tell(ExplainLine(Mark.PASS, "signature", ""))
        finally:
            await keys.aclose()


def _explain_claims(
    report: _Report, claims: dict[str, Any], issuer: IssuerSettings, at: float | None
) -> None:
    now, whose = (at, "--at") if at is not None else (time.time(), "now")
    judging, so_far = Judging(claims, issuer, now), report.fault
    for name, check in logout_token.RULES:
        judged = report.rule(name, partial(check, judging), _members(claims, name.split(", ")))
        if name == "aud" and not judged:
            report.note("configured", _listed(one.client_id for one in issuer.clients))
    report.note("times", f"judged as of {moment(now)}, {whose}")
    if at is None and so_far is None and report.fault is not None:
        made = _own_time(claims.get("iat"))
        if made is not None and _first_refusal(Judging(claims, issuer, made)) is None:
            report.note(WAS_VALID, moment(made))


def _first_refusal(judging: Judging) -> TokenRefused | None:
    for _, check in logout_token.RULES:
        try:
            check(judging)
        except TokenRefused as refusal:
            return refusal
    return None


def _own_time(iat: object) -> float | None:
    """The time at which the token was made; None where it does not say it."""
    if isinstance(iat, int | float) and not isinstance(iat, bool) and abs(iat) < YEAR_9999:
        return float(iat)
    return None


_TIMES = frozenset({"iat", "exp", "nbf"})


def _members(members: dict[str, Any], names: list[str]) -> str:
    """What is there under these names, with times also as people write them."""
    found = []
    for name in names:
        if name not in members:
            continue
        value = members[name]
        text = f"{name} {shown(value)}"
        if name in _TIMES and isinstance(value, int | float) and not isinstance(value, bool):
            text += f" ({moment(value)})"
        found.append(text)
    return ", ".join(found) or "absent"


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(shown(value) for value in values)
