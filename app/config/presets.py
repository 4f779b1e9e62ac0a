"""What is known of each provider: the tables of `providers.toml`.

``preset = "keycloak"`` on an issuer takes from here what can be set; `check` and
docs/providers.md say the rest. A preset may set ``algorithms`` and nothing else, and only where
the operator has not said them: a check that the receiver makes is never switched off, and no
deadline made longer, because a provider is known to need it. That is for an operator to say.
"""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.config.types import Algorithm, Seconds


class Preset(BaseModel):
    """One provider. Texts are Markdown; an empty one means that it is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    release: str
    """Of what the facts are."""
    evidence: Literal["run", "source", "documentation"]
    """``run``: its tokens were captured from that release; else it was only read about."""
    sends_tokens: bool = True
    instead: str = ""
    """What to do where it sends none."""

    issuer: str = ""
    """What its ``iss`` looks like."""
    aliases: str = ""
    """When it signs under other names too."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256",)
    """What an issuer with this preset takes, unless its settings say otherwise."""
    algorithms_note: str = ""
    mixes_algorithms: bool = False
    """Whether it may sign a client's tokens with the algorithm of another client."""
    never_encrypts: bool = False
    """Whether no release encrypts logout tokens, whatever the client asks for."""

    typ: str = ""
    kid: str = ""
    aud: str = ""
    sub: str = ""
    sid: str = ""
    both_claims: Literal["session", "user"] = "session"
    """What its clients need: ``user`` where a logout token has a ``sid`` and the ID token has none,
    so that no app can know the session."""
    token_life: Seconds | None = None
    """From ``iat`` to ``exp``; 0 where there is no ``exp``, None where it is not known."""
    beside: str = ""
    """Further claims, and what else differs."""

    answer_within: Seconds | None = None
    """How long it waits for the answer."""
    success: str = ""
    """The statuses that it takes for success."""
    retries: str = ""
    same_token_for: Seconds = 0
    """How long after its first attempt it may send the same token, with the same ``iat``."""
    delivery: str = ""

    click: tuple[str, ...] = ()
    """Where to switch it on by hand, step by step."""
    call: str = ""
    """How to switch it on by a call, or in a configuration."""
    never_sent: tuple[str, ...] = ()
    """Ends of sessions that it tells nobody."""
    session_life: Seconds | None = None
    """The longest that its sessions last by default."""
    session_note: str = ""
    remarks: tuple[str, ...] = ()


@cache
def presets() -> dict[str, Preset]:
    """All of them, by the name that a setting gives."""
    tables = tomllib.loads(files(__package__).joinpath("providers.toml").read_text("utf-8"))
    return {name: Preset.model_validate(table) for name, table in tables.items()}


def _known(name: str) -> str:
    if name not in presets():
        raise ValueError(f"must be one of {', '.join(sorted(presets()))}")
    return name


PresetName = Annotated[str, AfterValidator(_known)]
