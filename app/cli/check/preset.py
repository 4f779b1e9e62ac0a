"""Rows about an issuer's preset: what it sets, and what has to be done at the provider.

Compares facts of `app.config.presets` with the settings, without contacting the provider.
"""

import re
from collections.abc import Iterator

from app.cli.table import CheckVerdict, Row
from app.config.issuers import IssuerSettings
from app.config.presets import Preset, presets
from app.formatting import duration
from app.tokens.jwks import KeySet


def preset_rows(issuer: IssuerSettings, keys: KeySet | None = None) -> Iterator[Row]:
    """No rows without a preset. ``keys`` are those that the issuer publishes."""
    if issuer.preset is None:
        return
    name, preset = issuer.preset, presets()[issuer.preset]
    if not preset.sends_tokens:
        yield Row(
            CheckVerdict.WARNING, name, f"sends no logout tokens. {_plain(preset.alternative)}"
        )
        return
    yield _algorithms_row(issuer, name, preset)
    if preset.mixes_algorithms:
        yield from _mixed_algorithms_rows(issuer, name, keys)
    yield from _lost_logouts_rows(issuer, name, preset)
    if preset.aliases and not issuer.aliases:
        yield Row(CheckVerdict.WARNING, f"{name} aliases", f"none. {_plain(preset.aliases)}")
    if preset.same_token_for > issuer.max_token_age + issuer.leeway:
        yield Row(
            CheckVerdict.WARNING,
            f"{name} retries",
            f"the same token for {duration(preset.same_token_for)}: longer than max_token_age",
        )
    if preset.console_steps or preset.command:
        where = "; ".join(preset.console_steps) or "see the command in docs/providers.md"
        yield Row(CheckVerdict.NOTE, f"{name} switch on", _plain(where))
    if preset.never_sent:
        yield Row(CheckVerdict.NOTE, f"{name} never sends", _plain("; ".join(preset.never_sent)))
    if preset.session_life is not None:
        yield _sessions_row(issuer, name, preset)


def _algorithms_row(issuer: IssuerSettings, name: str, preset: Preset) -> Row:
    facts = f"{preset.name}, {preset.release} ({preset.evidence})"
    theirs, ours = ", ".join(preset.algorithms), ", ".join(issuer.algorithms)
    if issuer.algorithms == preset.algorithms:
        return Row(CheckVerdict.RIGHT, name, f"{facts}; algorithms {ours}")
    return Row(
        CheckVerdict.NOTE, name, f"{facts}; algorithms {ours} by your settings, {theirs} by it"
    )


def _lost_logouts_rows(issuer: IssuerSettings, name: str, preset: Preset) -> Iterator[Row]:
    """Settings with which this provider's logouts are refused or end nothing."""
    if preset.never_encrypts and issuer.encryption == "required":
        said = "required, but it never encrypts logout tokens: all of them are refused"
        yield Row(CheckVerdict.WARNING, f"{name} encryption", said)
    if issuer.strict and _lacks_what_strict_demands(preset):
        said = "its tokens lack the typ logout+jwt or exp: all of them are refused"
        yield Row(CheckVerdict.WARNING, f"{name} strict", said)
    if apps := _apps_without_sid(issuer, preset):
        said = (
            f"its ID tokens have no sid, its logout tokens may: a logout ends nothing in"
            f' {", ".join(apps)}; set both_claims = "user" at the client'
        )
        yield Row(CheckVerdict.WARNING, f"{name} both_claims", said)


def _lacks_what_strict_demands(preset: Preset) -> bool:
    known = preset.typ != "not known"
    return preset.token_life == 0 or (known and "logout+jwt" not in preset.typ)


def _mixed_algorithms_rows(issuer: IssuerSettings, name: str, keys: KeySet | None) -> Iterator[Row]:
    """What is refused if a client's token is signed with the algorithm of another client."""
    own = sorted({client.client_id for client in issuer.clients if client.algorithms})
    if own:
        said = (
            f"{', '.join(own)}: algorithms at a client refuse what is signed with another client's;"
            " set all of the provider's algorithms at the issuer, and none at clients"
        )
        yield Row(CheckVerdict.WARNING, f"{name} client algorithms", said)
    taken = {
        *issuer.algorithms,
        *(alg for client in issuer.clients for alg in client.algorithms or ()),
    }
    others = [key for key in (keys.keys if keys else ()) if not key.algorithms & taken]
    if others:
        listed = ", ".join(sorted({alg for key in others for alg in key.algorithms}))
        said = f"it has keys for {listed} too, and may sign any client's token with them; add them"
        yield Row(CheckVerdict.WARNING, f"{name} other algorithms", said)


def _apps_without_sid(issuer: IssuerSettings, preset: Preset) -> list[str]:
    """The apps whose sessions a logout of this provider does not find."""
    if preset.both_claims == "session":
        return []
    return sorted({client.app for client in issuer.clients if client.both_claims == "session"})


def _sessions_row(issuer: IssuerSettings, name: str, preset: Preset) -> Row:
    """Whether an app's sessions outlive the provider's."""
    theirs = preset.session_life or 0
    longer = sorted({client.app for client in issuer.clients if client.max_session_age > theirs})
    note = f" ({_plain(preset.session_note)})" if preset.session_note else ""
    detail = f"end after {duration(theirs)} by default{note}"
    if not longer:
        return Row(CheckVerdict.RIGHT, f"{name} sessions", detail)
    return Row(
        CheckVerdict.WARNING,
        f"{name} sessions",
        f"{detail}; those of {', '.join(longer)} last longer (max_session_age), and once the"
        " provider's session has expired, no logout arrives for them",
    )


def _plain(markdown: str) -> str:
    return re.sub(r"[`*]", "", markdown)
