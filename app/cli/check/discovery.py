"""Rows about logouts from the provider's side: whether it sends them, and to which URL."""

import json
from collections.abc import Iterator
from typing import Any

import httpx

from app.cli.table import CheckVerdict, Row
from app.config.issuers import IssuerSettings
from app.config.model import Settings
from app.config.types import is_loopback
from app.formatting import fetch_fault
from app.server.paths import LOGOUT_PATH
from app.tokens.fetch import FETCH_SECONDS, FetchFailed, fetch_document, other_issuer

_DISCOVERY = "/.well-known/openid-configuration"


async def discovery_rows(issuer: IssuerSettings, client: httpx.AsyncClient) -> list[Row]:
    """What the issuer's discovery document says about logouts."""
    what = f"logouts of {issuer.issuer}"
    try:
        document = await _discovery(issuer, client)
    except FetchFailed as fault:
        # Without jwks_uri, the row of its keys reports this.
        said = f"its features are unknown: discovery: {fetch_fault(fault.code, fault.detail)}"
        return [Row(CheckVerdict.UNKNOWN, what, said)] if issuer.jwks_uri else []
    return [Row(verdict, what, said) for verdict, said in _findings(issuer, document)]


async def _discovery(issuer: IssuerSettings, client: httpx.AsyncClient) -> dict[str, Any]:
    url = issuer.issuer.removesuffix("/") + _DISCOVERY
    document = await fetch_document(client, url, allow_http=issuer.allow_http)
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        raise FetchFailed("discovery_not_json") from None
    if not isinstance(found, dict):
        raise other_issuer(None, issuer.issuer)
    if found.get("issuer") != issuer.issuer:
        raise other_issuer(found.get("issuer"), issuer.issuer)
    return found


def _findings(
    issuer: IssuerSettings, document: dict[str, Any]
) -> Iterator[tuple[CheckVerdict, str]]:
    match document.get("backchannel_logout_supported"):
        case True:
            yield CheckVerdict.RIGHT, "discovery: it sends back-channel logouts"
        case False:
            yield CheckVerdict.WARNING, "discovery: it sends no back-channel logouts"
        case _:
            yield (
                CheckVerdict.UNKNOWN,
                "discovery does not say whether it sends back-channel logouts",
            )
    by_session = any(client.both_claims == "session" for client in issuer.clients)
    if document.get("backchannel_logout_session_supported") is False and by_session:
        said = "its tokens carry no sid: a logout ends all of the user's sessions"
        yield CheckVerdict.WARNING, f"discovery: {said}"
    offered = document.get("id_token_signing_alg_values_supported")
    names = list(map(str, offered)) if isinstance(offered, list) else []
    own = [alg for client in issuer.clients for alg in client.algorithms or ()]
    if names and not {*issuer.algorithms, *own} & set(names):
        listed, taken = ", ".join(names[:8]), ", ".join(issuer.algorithms)
        yield CheckVerdict.WARNING, f"discovery: it signs with {listed}; algorithms takes {taken}"


async def address_row(settings: Settings, client: httpx.AsyncClient) -> Row:
    """The URL to register at providers, and whether it leads here."""
    what, public = "for providers", settings.public_url
    if public is None:
        said = f"register https://<your host>{LOGOUT_PATH}; set public_url to test it"
        return Row(CheckVerdict.RIGHT, what, said)
    url = public if public.endswith(LOGOUT_PATH) else public.rstrip("/") + LOGOUT_PATH
    said = f"register {url}"
    if not url.startswith("https://") and not is_loopback(url):
        return Row(CheckVerdict.WRONG, what, f"{said}: not https, most providers refuse it")
    try:
        answer = await client.get(url, timeout=FETCH_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, OSError):
        return Row(CheckVerdict.UNKNOWN, what, f"{said}: it cannot be reached from here now")
    if _is_ours(answer):
        return Row(CheckVerdict.RIGHT, what, f"{said}: it leads to a receiver")
    if answer.status_code in (502, 503, 504):
        return Row(CheckVerdict.UNKNOWN, what, f"{said}: no receiver behind it answers now")
    return Row(
        CheckVerdict.WRONG, what, f"{said}: it answers {answer.status_code}, and is no receiver"
    )


def _is_ours(answer: httpx.Response) -> bool:
    """Whether this is a receiver's answer to another method than POST."""
    try:
        return answer.status_code == 405 and answer.json() == {"error": "method_not_allowed"}
    except ValueError:
        return False
