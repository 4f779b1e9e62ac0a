"""An issuer and its clients as the way of a token reads them: some twenty times for each logout.

The models of the settings have a hook of pydantic's for what they lack, so that Python finds what
they do have at three times the price (docs/performance.md). These have none.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class PlainClient:
    """What its members mean is said at `ClientSettings`."""

    client_id: str
    app: str
    algorithms: tuple[str, ...] | None
    secret: bytes | None = field(repr=False)
    max_session_age: float
    both_claims: Literal["session", "user"]


@dataclass(frozen=True, slots=True, eq=False)
class PlainIssuer:
    """What its members mean is said at `IssuerSettings`.

    Equal to itself alone, so that it is a quick key of what is derived from it.
    """

    issuer: str
    names: tuple[str, ...]
    algorithms: tuple[str, ...]
    encryption: Literal["optional", "required"]
    strict: bool
    require_exp: bool
    leeway: float
    max_token_age: float
    clients: tuple[PlainClient, ...]
    client_ids: tuple[str, ...]
    clients_differ: bool
    """Whether a client has algorithms of its own."""
