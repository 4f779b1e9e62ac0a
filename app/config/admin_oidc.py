"""The table ``[admin_oidc]``: who may sign in to the console with OpenID Connect."""

from typing import Annotated

from pydantic import Field, SecretStr

from app.config.base import Table

_Text = Annotated[str, Field(min_length=1, max_length=1024)]


class RequiredClaim(Table):
    """A claim that the ID token of an operator must contain."""

    name: _Text
    """The claim's name."""
    value: _Text
    """The claim's value, or one item of it where the claim is a list."""


class AdminOidcSettings(Table):
    """The console's own client, which must be one of the settings' clients.

    So its logout tokens arrive here like all others, and end the console's sessions.
    """

    issuer: _Text
    """The provider: the ``issuer`` of one of the issuers."""
    client_id: _Text
    """The console's client id: one of that issuer's clients."""
    client_secret: Annotated[SecretStr, Field(min_length=1)]
    """The secret of that client."""
    required_group: _Text | None = None
    """A group that the claim ``groups`` must contain. Set either this or ``required_claim``."""
    required_claim: RequiredClaim | None = None
    """A claim that the ID token must contain: ``{name = "...", value = "..."}``."""
    scopes: tuple[_Text, ...] = ("openid", "profile")
    """The scopes of the sign-in."""

    @property
    def required(self) -> RequiredClaim:
        """The claim that an operator needs."""
        if self.required_claim is not None:
            return self.required_claim
        return RequiredClaim(name="groups", value=self.required_group or "")
