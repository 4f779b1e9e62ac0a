"""`check`'s word on an issuer's preset: what it has set, and what no setting here can do.

Facts of `app.presets`, compared with the settings; nothing is asked of the provider.
"""

import re
from collections.abc import Iterator

from app.presets import Preset, presets
from app.settings import IssuerSettings

from .table import Row, Verdict


def preset_rows(issuer: IssuerSettings) -> Iterator[Row]:
    """Nothing for an issuer without a preset."""
    if issuer.preset is None:
        return
    name, preset = issuer.preset, presets()[issuer.preset]
    if not preset.sends_tokens:
        yield Row(Verdict.WARNING, name, f"sends no logout tokens. {_plain(preset.instead)}")
        return
    yield _algorithms_row(issuer, name, preset)
    if preset.aliases and not issuer.aliases:
        yield Row(Verdict.WARNING, f"{name} aliases", f"none. {_plain(preset.aliases)}")
    if preset.same_token_for > issuer.max_token_age + issuer.leeway:
        yield Row(
            Verdict.WARNING,
            f"{name} retries",
            f"the same token for {duration(preset.same_token_for)}: longer than max_token_age",
        )
    if preset.click or preset.call:
        where = "; ".join(preset.click) or "see the call in docs/providers.md"
        yield Row(Verdict.NOTE, f"{name} switch on", _plain(where))
    if preset.never_sent:
        yield Row(Verdict.NOTE, f"{name} never sends", _plain("; ".join(preset.never_sent)))
    if preset.session_life is not None:
        yield _sessions_row(issuer, name, preset)


def _algorithms_row(issuer: IssuerSettings, name: str, preset: Preset) -> Row:
    facts = f"{preset.name}, {preset.release} ({preset.evidence})"
    theirs, ours = ", ".join(preset.algorithms), ", ".join(issuer.algorithms)
    if issuer.algorithms == preset.algorithms:
        return Row(Verdict.RIGHT, name, f"{facts}; algorithms {ours}")
    return Row(Verdict.NOTE, name, f"{facts}; algorithms {ours} by your settings, {theirs} by it")


def _sessions_row(issuer: IssuerSettings, name: str, preset: Preset) -> Row:
    """Whether an app's sessions outlive those that a logout could end."""
    theirs = preset.session_life or 0
    longer = sorted({one.app for one in issuer.clients if one.max_session_age > theirs})
    note = f" ({_plain(preset.session_note)})" if preset.session_note else ""
    detail = f"end after {duration(theirs)} by default{note}"
    if not longer:
        return Row(Verdict.RIGHT, f"{name} sessions", detail)
    return Row(
        Verdict.WARNING,
        f"{name} sessions",
        f"{detail}; those of {', '.join(longer)} last longer (max_session_age), and once the"
        " provider's has ended by itself, no logout comes for them",
    )


def duration(seconds: float) -> str:
    """As a setting says it: ``90s``, ``10m``, ``10h``, ``30d``; the largest unit that is exact."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _plain(markdown: str) -> str:
    return re.sub(r"[`*]", "", markdown)
