"""The person or program on whose behalf a request is served."""

from dataclasses import dataclass

from starlette.types import Scope


@dataclass(frozen=True, slots=True)
class Operator:
    """``who`` identifies the caller in the audit, ``peer`` is the caller's IP address.

    The admin token does not identify a person; ``who`` then names the way in. For a person signed
    in at a provider it is `app.audit.person_name`, and ``iss`` is that provider.
    """

    who: str
    peer: str
    iss: str | None = None


def peer_address(scope: Scope) -> str:
    """The IP address that the request came from, or ``-``."""
    return scope["client"][0] if scope.get("client") else "-"
