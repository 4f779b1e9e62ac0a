"""The person or program on whose behalf a request is served."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who has shown the token. ``peer`` is the address that they come from.

    There is one token, so who the person is nobody knows; `who` says how they came in. Of a person
    who signed in at a provider, `who` is `app.audit.person` and ``iss`` that provider.
    """

    who: str
    peer: str
    iss: str | None = None
