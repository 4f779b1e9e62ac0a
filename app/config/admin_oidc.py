"""The table ``[admin_oidc]``: who may sign in to the console with OpenID Connect."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

_Text = Annotated[str, Field(min_length=1, max_length=1024)]


class RequiredClaim(BaseModel):
    """``value`` is what the ID token's claim ``name`` is, or one of what it holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Text
    value: _Text


class AdminOidcSettings(BaseModel):
    """The console's own client, which is one of the settings' clients: so the logout tokens for
    it come here like all others, and end its sessions."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    issuer: _Text
    client_id: _Text
    client_secret: Annotated[SecretStr, Field(min_length=1)]
    required_group: _Text | None = None
    """A group that must be in the claim ``groups``."""
    required_claim: RequiredClaim | None = None
    scopes: tuple[_Text, ...] = ("openid", "profile")

    @property
    def required(self) -> RequiredClaim:
        """What lets in. The settings say one of them."""
        if self.required_claim is not None:
            return self.required_claim
        return RequiredClaim(name="groups", value=self.required_group or "")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.required_group is None) == (self.required_claim is None):
            raise ValueError(
                "say who may sign in: required_group or required_claim; there is no default"
            )
        return self


def admin_faults(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """The client must be configured: without its logout tokens nothing ends the sessions."""
    table = raw.get("admin_oidc")
    if not isinstance(table, dict):
        return
    issuers = raw.get("issuers")
    found = [one for one in issuers if isinstance(one, dict)] if isinstance(issuers, list) else []
    own = [one for one in found if one.get("issuer") == table.get("issuer")]
    if "issuer" in table and not own:
        yield ("admin_oidc", "issuer"), "is none of the issuers; add it, with this client"
        return
    clients = [
        client.get("client_id")
        for one in own
        for client in one.get("clients", ())
        if isinstance(client, dict)
    ]
    if own and "client_id" in table and table["client_id"] not in clients:
        yield (
            ("admin_oidc", "client_id"),
            "is no client of that issuer; add it, so that logouts end the console's sessions",
        )
