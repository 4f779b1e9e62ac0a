"""``python -m app explain``: a token, rule by rule, with what was there and what is configured.

Reads the token from the argument or, better, from standard input: arguments are in every
process list. Never prints the signature.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from app.errors import OUTAGE_SENTENCES, SENTENCES, DependencyUnavailable, TokenRefused
from app.settings import IssuerSettings, Settings
from app.tokens import logout_token, signed_jwt
from app.tokens.fetch import new_client
from app.tokens.logout_token import Judging
from app.tokens.provider_keys import ProviderKeys

HELP = "judge a logout token rule by rule; exit 1 if it would be refused"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--at",
        type=_time,
        metavar="TIME",
        help="judge the times as of then: epoch seconds or ISO 8601 (else the token's own iat)",
    )
    parser.add_argument(
        "token", nargs="?", default="-", metavar="TOKEN", help="the token, or - for standard input"
    )


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    text: str = sys.stdin.read() if arguments.token == "-" else arguments.token
    verdict = asyncio.run(_explain(settings, text.strip(), arguments.at))
    print("accepted" if verdict else "refused")
    return 0 if verdict else 1


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@dataclass(slots=True)
class _Report:
    """Prints a line for each rule and remembers whether all passed."""

    passed: bool = True

    def rule(self, name: str, check: Callable[[], Any], found: str = "") -> Any:
        """Run one check; None when it failed."""
        try:
            result = check()
        except TokenRefused as refusal:
            self.fail(name, refusal, found)
            return None
        print(f"pass  {name:<9}  {found}".rstrip())
        return True if result is None else result

    def fail(self, name: str, fault: TokenRefused | DependencyUnavailable, found: str = "") -> None:
        self.passed = False
        sentence = (
            SENTENCES[fault.reason]
            if isinstance(fault, TokenRefused)
            else OUTAGE_SENTENCES[fault.outage]
        )
        print(f"FAIL  {name:<9}  {fault}: {sentence}" + (f"  [{found}]" if found else ""))

    @staticmethod
    def skip(name: str, why: str) -> None:
        print(f"-     {name:<9}  not judged: {why}")


async def _explain(settings: Settings, token: str, at: float | None) -> bool:
    report = _Report()
    jwt = report.rule("shape", lambda: signed_jwt.parse(token.encode("utf-8", "replace")))
    if jwt is None:
        return False
    header, claims = jwt.unverified_header, jwt.unverified_claims
    issuers = {name: issuer for issuer in settings.issuers for name in issuer.names}
    issuer = report.rule(
        "iss", lambda: signed_jwt.issuer_of(jwt, issuers), _shown(claims.get("iss"))
    )
    if issuer is None:
        print("      configured: " + ", ".join(sorted(issuers)))
        return False
    shown_header = ", ".join(f"{name} {_shown(header.get(name))}" for name in ("alg", "typ", "kid"))
    if report.rule(
        "header", lambda: signed_jwt.check_header(jwt, issuer, logout_token.TYPS), shown_header
    ):
        await _explain_signature(report, jwt, issuer)
    else:
        print("      configured: algorithms " + ", ".join(issuer.algorithms))
        report.skip("signature", "the header is refused")
    _explain_claims(report, claims, issuer, at)
    return report.passed


async def _explain_signature(
    report: _Report, jwt: signed_jwt.UnverifiedJwt, issuer: IssuerSettings
) -> None:
    async with new_client() as client:
        keys = ProviderKeys(issuer, client)
        await keys.refresh()
        try:
            await signed_jwt.verify(jwt, issuer, keys, arrived_at=time.time())
        except (TokenRefused, DependencyUnavailable) as fault:
            error, current = keys.state().last_error, keys.current()
            known = ", ".join(key.kid or "(no kid)" for key in current.keys) if current else "none"
            report.fail("signature", fault, error or f"keys: {known}")
        else:
            print("pass  signature")
        finally:
            await keys.aclose()


def _explain_claims(
    report: _Report, claims: dict[str, Any], issuer: IssuerSettings, at: float | None
) -> None:
    now, whose = (at, "--at") if at is not None else _own_time(claims.get("iat"))
    judging = Judging(claims, issuer, now)
    for name, check in logout_token.RULES:
        members = name.split(", ")
        found = ", ".join(f"{one} {_shown(claims[one])}" for one in members if one in claims)
        report.rule(name, partial(check, judging), found or "absent")
        if name == "aud":
            print("      configured: " + ", ".join(one.client_id for one in issuer.clients))
    print(f"      times judged as of {now:.0f} ({whose})")


def _own_time(iat: object) -> tuple[float, str]:
    """The time at which the token was made, so that an old one can be explained too."""
    if isinstance(iat, int | float) and not isinstance(iat, bool) and abs(iat) < 1e15:
        return float(iat), "the token's iat"
    return time.time(), "now: the token has no usable iat"


def _shown(value: Any) -> str:
    """A value for a terminal: JSON, so that no control character gets through; cut short."""
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."
