"""The table ``[canary]``: a session of our own that is ended on a schedule."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.config.types import AppName, Seconds

DEFAULT_APP = "canary"


class CanarySettings(BaseModel):
    """It is on where the table is there, empty or not."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    app: AppName = DEFAULT_APP
    """Its relying app in Redis, which must be nobody else's."""
    interval: Annotated[Seconds, Field(ge=1)] = 60
    """From the end of one try to the beginning of the next."""
    within: Annotated[Seconds, Field(ge=0.1, le=60)] = 5
    """How long marker and receipt are waited for."""


def canary_faults(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """A client whose app is the canary's: its sessions would be looked for among ours."""
    table = raw.get("canary")
    if not isinstance(table, dict):
        return
    app, issuers = table.get("app", DEFAULT_APP), raw.get("issuers")
    for i, issuer in enumerate(issuers if isinstance(issuers, list) else []):
        clients = issuer.get("clients") if isinstance(issuer, dict) else None
        for j, client in enumerate(clients if isinstance(clients, list) else []):
            if isinstance(client, dict) and client.get("app", client.get("client_id")) == app:
                yield ("issuers", i, "clients", j, "app"), "is the canary's; name another in it"
