"""Writes docs/providers.md from `providers.toml`: ``make providers``."""

import sys
from collections.abc import Iterator

from app.config.presets import Preset, presets
from app.formatting import duration

_HEAD = """# Providers

How to point each provider at the receiver, the form of its tokens, and the logouts that it never
sends. Written from [app/config/providers.toml](../app/config/providers.toml) by `make providers`.

`preset = "NAME"` on an issuer sets `algorithms` where the settings do not, and nothing else;
`python -m app check` compares the other facts with your settings. The URL is
`https://<your host>/backchannel-logout`, the same for every client.

*Tested* is the evidence: tokens were captured from the running release, or the facts were only read
in the provider's source code or documentation. Each form of a token is a test
([captures.json](../tests/tokens/captures.json)). Console steps and commands were not run, unless
they are marked as *tested*: compare them with your release.

Any other provider that follows the specification works without a preset. Connect2id, rodauth-oauth
and SAP Cloud Identity are known to send logout tokens.
"""

_TESTED = {
    "run": "with tokens captured from release {}",
    "source": "no, only read in its source code: {}",
    "documentation": "no, only read: {}",
}


def page() -> str:
    """The whole document."""
    senders = {name: preset for name, preset in presets().items() if preset.sends_tokens}
    others = {name: preset for name, preset in presets().items() if not preset.sends_tokens}
    parts = [_HEAD, _overview(senders)]
    parts += ["\n".join(_sender(name, preset)) for name, preset in senders.items()]
    parts.append("## Providers that send no logout tokens\n")
    parts += [
        f"* **{preset.name}** (`{name}`; {preset.release}): {preset.alternative}"
        for name, preset in others.items()
    ]
    return "\n".join(parts) + "\n"


def _overview(senders: dict[str, Preset]) -> str:
    rows = [
        "| preset | algorithms | `sid` | `exp` after `iat` | timeout | retries | tested |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, preset in senders.items():
        cells = [
            f"[`{name}`](#{name})", ", ".join(preset.algorithms), preset.sid,
            _token_life(preset), _seconds(preset.answer_within), preset.retries, preset.evidence,
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cell or 'not known' for cell in cells)} |")
    return "\n".join([*rows, ""])


def _token_life(preset: Preset) -> str:
    return "absent" if preset.token_life == 0 else _seconds(preset.token_life)


def _seconds(length: float | None) -> str:
    return "" if length is None else f"{length:g} s"


def _sender(name: str, preset: Preset) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"**{preset.name}.** Tested: {_TESTED[preset.evidence].format(preset.release)}.\n"
    yield f'```toml\n[[issuers]]\nissuer = "..."\npreset = "{name}"'
    if preset.both_claims == "user":
        yield '\n  [[issuers.clients]]\n  client_id = "..."\n  both_claims = "user"'
    yield "```\n"
    yield from _facts({"`issuer`": preset.issuer, "`aliases`": preset.aliases})
    if preset.console_steps or preset.command:
        yield "\n**Enable it.**\n"
        yield from (f"* {step}" for step in preset.console_steps)
        if preset.command:
            yield f"\n```\n{preset.command.strip()}\n```"
    yield "\n**Its tokens.**\n"
    algorithms = ", ".join(preset.algorithms)
    note = f"; {preset.algorithms_note}" if preset.algorithms_note else ""
    yield from _facts(
        {
            "`alg`": algorithms + note, "`typ`": preset.typ, "`kid`": preset.kid,
            "`aud`": preset.aud, "`sub`": preset.sub, "`sid`": preset.sid,
            "encryption": "never" if preset.never_encrypts else "",
            "`exp` after `iat`": _token_life(preset), "also": preset.extras,
            "delivery": preset.delivery, "timeout": _seconds(preset.answer_within),
            "success": preset.success, "retries": preset.retries,
        }
    )  # fmt: skip
    yield "\n**Never sent.**\n"
    yield from (f"* {gap}" for gap in preset.never_sent or ["Not known."])
    yield ""
    if preset.session_life is not None or preset.session_note:
        life = preset.session_life
        longest = "" if life is None else f"up to {duration(life)} by default"
        facts = "; ".join(filter(None, (longest, preset.session_note)))
        yield f"**How long its sessions last:** {facts}.\n"
    yield from (f"{remark}\n" for remark in preset.remarks)


def _facts(facts: dict[str, str]) -> Iterator[str]:
    yield from (f"* {name}: {fact}" for name, fact in facts.items() if fact)


if __name__ == "__main__":
    sys.stdout.write(page())
