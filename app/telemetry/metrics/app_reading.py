"""What Redis knows of one app."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from backchannel_logout.contract.readers import ReaderKind


@dataclass(slots=True)
class AppReading:
    """One app; None is unknown. ``at`` is epoch seconds; ``beyond`` names what the app has written
    that is too large to be read."""

    at: float | None = None
    events: int | None = None
    readers: Mapping[ReaderKind, int] = field(default_factory=dict)
    last_report: float | None = None
    lag: int | None = None
    pending: int | None = None
    dead_letters: int | None = None
    last_event: bytes | None = None
    last_receipt: bytes | None = None
    written_bytes: int | None = None
    events_bytes: int | None = None
    beyond: str | None = None
    beyond_until: float = 0.0
