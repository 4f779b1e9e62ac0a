"""docs/providers.md, written from `providers.toml`: `make providers`."""

import sys
from collections.abc import Iterator

from app.config.presets import Preset, presets
from app.formatting import duration

HEAD = """# Providers

How to point each one at the receiver, what it sends, and what it never sends. Written from
[app/config/providers.toml](../app/config/providers.toml) by `make providers`.

`preset = "NAME"` on an issuer sets `algorithms` for it where the settings do not say them, and
nothing else; `python -m app check` says the rest of what stands here, beside your settings. The URL
is `https://<your host>/backchannel-logout`, the same for every client.

*Tested* says how we know: tokens were captured from the running release, or it was only read about,
in its source or in its makers' documentation. Each shape of a token is a test
([captures.json](../tests/tokens/captures.json)). Click paths and calls were not run, unless it says
*tested*: compare them with your release.

Any other provider that follows the specification works without a preset. Connect2id, rodauth-oauth
and SAP Cloud Identity are known to send logout tokens.
"""

TESTED = {
    "run": "with tokens captured from release {}",
    "source": "no, read in its source: {}",
    "documentation": "no, only read about: {}",
}


def page() -> str:
    """The whole document."""
    known = presets()
    senders = {name: one for name, one in known.items() if one.sends_tokens}
    others = {name: one for name, one in known.items() if not one.sends_tokens}
    parts = [HEAD, _overview(senders)]
    parts += ["\n".join(_sender(name, one)) for name, one in senders.items()]
    parts.append("## Providers that send no logout tokens\n")
    parts += [
        f"* **{one.name}** (`{name}`; {one.release}): {one.instead}" for name, one in others.items()
    ]
    return "\n".join(parts) + "\n"


def _overview(senders: dict[str, Preset]) -> str:
    rows = [
        "| preset | algorithms | `sid` | `exp` after `iat` | waits | retries | tested |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in senders.items():
        cells = [
            f"[`{name}`](#{name})", ", ".join(one.algorithms), one.sid,
            _life(one), _seconds(one.answer_within), one.retries, one.evidence,
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cell or 'not known' for cell in cells)} |")
    return "\n".join([*rows, ""])


def _life(one: Preset) -> str:
    return "absent" if one.token_life == 0 else _seconds(one.token_life)


def _seconds(length: float | None) -> str:
    return "" if length is None else f"{length:g} s"


def _sender(name: str, one: Preset) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"**{one.name}.** Tested: {TESTED[one.evidence].format(one.release)}.\n"
    yield f'```toml\n[[issuers]]\nissuer = "..."\npreset = "{name}"'
    if one.both_claims == "user":
        yield '\n  [[issuers.clients]]\n  client_id = "..."\n  both_claims = "user"'
    yield "```\n"
    yield from _facts({"`issuer`": one.issuer, "`aliases`": one.aliases})
    if one.click or one.call:
        yield "\n**Switch it on.**\n"
        yield from (f"* {step}" for step in one.click)
        if one.call:
            yield f"\n```\n{one.call.strip()}\n```"
    yield "\n**What it sends.**\n"
    algorithms = ", ".join(one.algorithms)
    note = f": {one.algorithms_note}" if one.algorithms_note else ""
    yield from _facts(
        {
            "`alg`": algorithms + note, "`typ`": one.typ, "`kid`": one.kid, "`aud`": one.aud,
            "`sub`": one.sub, "`sid`": one.sid,
            "encryption": "never" if one.never_encrypts else "", "`exp` after `iat`": _life(one),
            "beside": one.beside, "delivery": one.delivery,
            "waits for the answer": _seconds(one.answer_within),
            "takes for success": one.success, "retries": one.retries,
        }
    )  # fmt: skip
    yield "\n**What it never sends.**\n"
    yield from (f"* {gap}" for gap in one.never_sent or ["Not known."])
    yield ""
    if one.session_life is not None or one.session_note:
        longest = "not known" if one.session_life is None else duration(one.session_life)
        note = f"; {one.session_note}" if one.session_note else ""
        yield f"**Its sessions** last, by default and at the most: {longest}{note}.\n"
    yield from (f"{remark}\n" for remark in one.remarks)


def _facts(facts: dict[str, str]) -> Iterator[str]:
    yield from (f"* {what}: {said}" for what, said in facts.items() if said)


if __name__ == "__main__":
    sys.stdout.write(page())
