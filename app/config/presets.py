"""Facts about each provider: the tables of `providers.toml`.

With ``preset = "keycloak"``, an issuer takes its algorithms from here, unless the settings have
them; `check` and docs/providers.md report the rest. A preset sets ``algorithms`` and nothing else:
only an operator switches off a check or extends a deadline, even for a provider which is known to
need it.
"""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.config.types import Algorithm, Seconds


class Preset(BaseModel):
    """One provider. Texts are Markdown; an empty text is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    release: str
    """The release that the facts are about."""
    evidence: Literal["run", "source", "documentation"]
    """``run``: its tokens were captured from that release."""
    sends_tokens: bool = True
    alternative: str = ""
    """What to do with a provider that sends no tokens."""

    issuer: str = ""
    """The form of its ``iss``."""
    aliases: str = ""
    """When it also signs under other names."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256",)
    """The accepted algorithms of an issuer with this preset, unless its settings have others."""
    algorithms_note: str = ""
    mixes_algorithms: bool = False
    """Whether it may sign a client's tokens with the algorithm of another client."""
    never_encrypts: bool = False
    """Whether no release encrypts logout tokens, even if the client is configured for it."""

    typ: str = ""
    kid: str = ""
    aud: str = ""
    sub: str = ""
    sid: str = ""
    both_claims: Literal["session", "user"] = "session"
    """What its clients need: ``user`` if a logout token has a ``sid`` and the ID token has none, so
    that no app knows the session."""
    token_life: Seconds | None = None
    """From ``iat`` to ``exp``; 0 without ``exp``, None if unknown."""
    extras: str = ""
    """Other claims and differences."""

    answer_within: Seconds | None = None
    """How long it waits for the answer."""
    success: str = ""
    """The statuses that it counts as success."""
    retries: str = ""
    same_token_for: Seconds = 0
    """How long after the first attempt it may send the same token, with the same ``iat``."""
    delivery: str = ""

    console_steps: tuple[str, ...] = ()
    """How to enable back-channel logout in its console."""
    command: str = ""
    """How to enable it with a command, an API call or in a configuration."""
    never_sent: tuple[str, ...] = ()
    """Ends of sessions for which it sends no token."""
    session_life: Seconds | None = None
    """The longest life of its sessions by default."""
    session_note: str = ""
    remarks: tuple[str, ...] = ()


@cache
def presets() -> dict[str, Preset]:
    """Every preset, by name."""
    tables = tomllib.loads(files(__package__).joinpath("providers.toml").read_text("utf-8"))
    return {name: Preset.model_validate(table) for name, table in tables.items()}


def _known(name: str) -> str:
    if name not in presets():
        raise ValueError(f"must be one of {', '.join(sorted(presets()))}")
    return name


PresetName = Annotated[str, AfterValidator(_known)]
