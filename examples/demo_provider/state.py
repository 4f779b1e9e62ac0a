"""The provider's parts, shared by all endpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa

from .codes import Codes
from .config import Config
from .logout import Logouts
from .sessions import Sessions
from .tokens import Signer


@dataclass(frozen=True, slots=True)
class Provider:
    """The state of one provider; ``clock`` gives epoch seconds."""

    config: Config
    signer: Signer
    codes: Codes
    sessions: Sessions
    logouts: Logouts
    clock: Callable[[], float]

    @classmethod
    def build(
        cls,
        config: Config,
        key: rsa.RSAPrivateKey,
        http: httpx.AsyncClient,
        clock: Callable[[], float],
    ) -> Self:
        """A provider without sessions; see `create_app`."""
        signer, sessions = Signer(config.issuer, key, clock), Sessions(clock)
        logouts = Logouts(config, sessions, signer, http, clock)
        return cls(config, signer, Codes(clock), sessions, logouts, clock)
