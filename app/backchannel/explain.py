"""Explains a logout token rule by rule: what it contains, and what is configured.

For the command `explain` and the console. Runs the steps of `pipeline` and goes on after a failure
where it can. Does not detect replays, and writes nothing.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from app.backchannel.pipeline import Attempt, Provider
from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.errors import OUTAGE_SENTENCES, SENTENCES, DependencyUnavailable, Reason, TokenRefused
from app.formatting import YEAR_9999, fetch_fault, moment, quoted
from app.telemetry.attempt_log import AttemptRecord, Reporter
from app.tokens import logout_token, signed_jwt
from app.tokens.encrypted_jwt import Decrypter, is_encrypted
from app.tokens.fetch import new_client
from app.tokens.logout_token import RuleInput
from app.tokens.other_kind import other_kind
from app.tokens.provider_keys import ProviderKeys
from app.verdict import count

Fault = TokenRefused | DependencyUnavailable

WAS_VALID = "it was valid at"
"""The note on a token refused only for its age: it was acceptable when it was issued."""


class Mark(StrEnum):
    """The kind of a line."""

    PASS = "pass"
    FAIL = "FAIL"
    SKIP = "-"
    NOTE = ""
    """Belongs to the line before."""


class ExplainLine(NamedTuple):
    """``name`` is the name of the rule, or the subject of a note."""

    mark: Mark
    name: str
    text: str


@dataclass(slots=True)
class _Report:
    """Emits a line for each rule and keeps the first fault: the receiver's answer."""

    emit: Callable[[ExplainLine], None]
    fault: Fault | None = None

    def result(self, name: str, refusal: TokenRefused | None, found: str = "") -> bool:
        """Report the result of one check; whether it passed."""
        if refusal is not None:
            self.fail(name, refusal, found)
        else:
            self.emit(ExplainLine(Mark.PASS, name, found))
        return refusal is None

    def fail(self, name: str, fault: Fault, found: str = "") -> None:
        self.fault = self.fault or fault
        sentence = (
            SENTENCES[fault.reason]
            if isinstance(fault, TokenRefused)
            else OUTAGE_SENTENCES[fault.outage]
        )
        self.emit(ExplainLine(Mark.FAIL, name, f"{fault}: {sentence}"))
        if found:
            self.note("found", found)

    def skip(self, name: str, why: str) -> None:
        self.emit(ExplainLine(Mark.SKIP, name, f"not judged: {why}"))

    def note(self, what: str, text: str) -> None:
        self.emit(ExplainLine(Mark.NOTE, what, text))


async def explain(
    settings: Settings,
    token: bytes,
    emit: Callable[[ExplainLine], None],
    at: float | None = None,
) -> Fault | None:
    """Emit a line for every rule as of ``at``, by default as of now. Returns the first fault.

    Fetches the issuer's keys anew. Never shows the signature.
    """
    report = _Report(emit)
    async with new_client() as client:
        providers = {
            name: Provider(issuer, ProviderKeys(issuer, client))
            for issuer in settings.signing_issuers
            for name in issuer.names
        }
        attempt = Attempt(providers, AttemptRecord(Reporter(), 0.0), token, time.time())
        await _explain(report, attempt, at)
    return report.fault


async def _explain(report: _Report, attempt: Attempt, at: float | None) -> None:
    if is_encrypted(attempt.unverified_token) and not _explain_encryption(report, attempt):
        return
    record, refusal = attempt.record, _refusal_of(attempt.parse)
    if not report.result(
        "shape", refusal if record.jwt is None else None, _segments(attempt.unverified_token)
    ):
        return
    jwt = attempt.jwt
    header, claims = jwt.unverified_header, jwt.unverified_claims
    if (kind := other_kind(header, claims)) is not None:
        report.note("this seems to be", f"{kind}, not the logout token that a provider POSTs")
    if not report.result(
        "iss", refusal if record.issuer is None else None, _members(claims, ["iss"])
    ):
        report.note("configured", _listed(sorted(attempt.providers)))
        return
    issuer = attempt.issuer
    if refusal is not None and refusal.reason is Reason.ENCRYPTION_REQUIRED:
        report.fail("encrypted", refusal)
        attempt.decrypted = True  # goes on as if it were
        refusal = _refusal_of(attempt.parse)
    if report.result("header", refusal, _members(header, ["alg", "typ", "kid", "crit"])):
        await _explain_signature(report, attempt)
    else:
        report.note("configured", f"algorithms {_listed(issuer.algorithms)}")
        for client in issuer.clients:
            if client.algorithms:
                report.note(client.client_id, f"algorithms {_listed(client.algorithms)}")
        report.skip("signature", "the header is refused")
    _explain_claims(report, claims, issuer, at)


def _segments(token: bytes) -> str:
    """Count the segments; for an unsigned token, also its ``alg``."""
    segments = token.split(b".")
    found = f"{len(token)} bytes, {count(len(segments), 'segment')}"
    if len(segments) not in (3, 5):
        return f"{found}; a token has 3, separated by dots, or 5 if it is encrypted"
    if len(segments) != 3 or segments[2]:
        return found
    found += "; the third, the signature, is empty"
    try:
        alg = signed_jwt.strict_header(segments[0]).get("alg")
    except TokenRefused:
        return found
    return f"{found}; alg {quoted(alg)}"


def _explain_encryption(report: _Report, attempt: Attempt) -> bool:
    """Decrypt the token; whether that succeeded."""
    decrypter = Decrypter({name: one.issuer for name, one in attempt.providers.items()})
    token = attempt.unverified_token
    try:
        header = signed_jwt.strict_header(token.partition(b".")[0])
    except TokenRefused:
        header = {}
    found = _members(header, ["alg", "enc", "kid", "cty", "zip", "crit"])
    try:
        attempt.unverified_token = decrypter.decrypt(token)
    except TokenRefused as refusal:
        report.fail("encrypted", refusal, found)
        if decrypter.keys:
            report.note("configured", _listed(f"{key.kid} ({key.alg})" for key in decrypter.keys))
        return False
    report.result("encrypted", None, found)
    attempt.decrypted = True
    return True


async def _explain_signature(report: _Report, attempt: Attempt) -> None:
    keys = attempt.keys
    await keys.refresh()
    try:
        await attempt.fetch_and_verify()
    except (TokenRefused, DependencyUnavailable) as fault:
        state, current = keys.state(), keys.current()
        report.fail("signature", fault)
        if state.last_error is not None:
            text = fetch_fault(state.last_error, state.last_detail)
            report.note("the issuer's keys", text)
        elif current is not None:
            report.note("the issuer's keys", _listed(key.kid for key in current.keys))
    else:
        report.emit(ExplainLine(Mark.PASS, "signature", ""))
    finally:
        await keys.aclose()


def _explain_claims(
    report: _Report, claims: dict[str, Any], issuer: IssuerSettings, at: float | None
) -> None:
    now, source = (at, "--at") if at is not None else (time.time(), "now")
    given, earlier_fault = RuleInput(claims, issuer, now), report.fault
    for name, check in logout_token.RULES:
        refusal = _refusal_of(partial(check, given))
        passed = report.result(name, refusal, _members(claims, name.split(", ")))
        if name == "aud" and not passed:
            report.note("configured", _listed(one.client_id for one in issuer.clients))
    report.note("times", f"judged as of {moment(now)}, {source}")
    if at is None and earlier_fault is None and report.fault is not None:
        issued = _issued_at(claims.get("iat"))
        if issued is not None and _first_refusal(RuleInput(claims, issuer, issued)) is None:
            report.note(WAS_VALID, moment(issued))


def _first_refusal(given: RuleInput) -> TokenRefused | None:
    refusals = (_refusal_of(partial(check, given)) for _, check in logout_token.RULES)
    return next(filter(None, refusals), None)


def _refusal_of(check: Callable[[], object]) -> TokenRefused | None:
    """Run a check; its refusal, or None if it passed."""
    try:
        check()
    except TokenRefused as refusal:
        return refusal
    return None


def _issued_at(iat: object) -> float | None:
    """When the token was issued; None if ``iat`` is no usable time."""
    if isinstance(iat, int | float) and not isinstance(iat, bool) and abs(iat) < YEAR_9999:
        return float(iat)
    return None


_TIMES = frozenset({"iat", "exp", "nbf"})


def _members(members: dict[str, Any], names: list[str]) -> str:
    """The members with these names; times also in readable form."""
    texts = []
    for name in names:
        if name not in members:
            continue
        value = members[name]
        text = f"{name} {quoted(value)}"
        if name in _TIMES and isinstance(value, int | float) and not isinstance(value, bool):
            text += f" ({moment(value)})"
        texts.append(text)
    return ", ".join(texts) or "absent"


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(quoted(value) for value in values)
