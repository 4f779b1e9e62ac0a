"""Which events and refusals somebody wants to see. Pure."""

from dataclasses import dataclass

from backchannel_logout import EventKind

from .facts import Told
from .notes import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What is not None must be so. ``kind`` is of events alone, ``reason`` of refusals alone.

    Refusals hold users and sessions as keyed hashes only: ``sid_hash`` and ``sub_hash`` are those
    of ``sid`` and ``sub``; without them no refusal passes where a ``sid`` or ``sub`` is asked for.
    """

    iss: str | None = None
    sid: str | None = None
    sub: str | None = None
    kind: EventKind | None = None
    reason: str | None = None
    sid_hash: str | None = None
    sub_hash: str | None = None

    def lets(self, item: Told | Refusal) -> bool:
        """Whether it may pass. An event that can not be read passes: it may be the one."""
        if isinstance(item, Told):
            return self._lets_event(item)
        if self.kind is not None:
            return False
        return (
            self.iss in (None, item.iss)
            and self.reason in (None, item.reason)
            and (self.sid is None or (item.sid_hash is not None and item.sid_hash == self.sid_hash))
            and (self.sub is None or (item.sub_hash is not None and item.sub_hash == self.sub_hash))
        )

    def _lets_event(self, told: Told) -> bool:
        if self.reason is not None:
            return False
        event = told.event
        return event is None or (
            self.iss in (None, event.iss)
            and self.kind in (None, event.kind)
            and self.sid in (None, event.sid)
            and self.sub in (None, event.sub)
        )


EVERYTHING = Filter()
