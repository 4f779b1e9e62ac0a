"""The table ``[canary]``: a session of the receiver's own, which it ends on a schedule."""

from typing import Annotated

from pydantic import Field

from app.config.base import Table
from app.config.types import AppName, Seconds


class CanarySettings(Table):
    """The canary runs where the table is present, even if it is empty."""

    app: AppName = "canary"
    """The canary's relying app in Redis. No client may use it."""
    interval: Annotated[Seconds, Field(ge=1)] = 60
    """Time from the end of one run to the start of the next."""
    within: Annotated[Seconds, Field(ge=0.1, le=60)] = 5
    """How long a run waits for its marker and receipt."""
