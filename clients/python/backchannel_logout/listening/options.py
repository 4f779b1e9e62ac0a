"""The options of a listener."""

from dataclasses import dataclass

from backchannel_logout.contract.keys import AppKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a listener reads. Times are in seconds; see `listener.AsyncListener`."""

    keys: AppKeys
    name: str | None
    reader: str
    tries: int
    retry_after: float
    take_over_after: float
    start: str
    poll_every: float | None
    receipts: bool
