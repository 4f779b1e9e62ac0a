"""Filters for events and refusals. Pure."""

from dataclasses import dataclass

from app.history.audit_stream import RefusalEntry
from app.history.records import DeliveredEvent
from backchannel_logout import EventKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Members that are not None must match. Only events have ``kind``, only refusals ``reason``.

    Refusals identify users and sessions by keyed hashes: ``sid_hash`` and ``sub_hash`` are those of
    ``sid`` and ``sub``. Without them, no refusal matches a ``sid`` or ``sub``.
    """

    iss: str | None = None
    sid: str | None = None
    sub: str | None = None
    kind: EventKind | None = None
    reason: str | None = None
    sid_hash: str | None = None
    sub_hash: str | None = None
    text: str | None = None
    """A case-insensitive part of `text_of` the item."""

    def passes(self, item: DeliveredEvent | RefusalEntry) -> bool:
        """Whether the item matches. An unreadable event passes, because it may match."""
        if isinstance(item, DeliveredEvent):
            return self._lets_event(item)
        if self.kind is not None or not self._lets_text(item):
            return False
        return (
            self.iss in (None, item.iss)
            and self.reason in (None, item.reason)
            and (self.sid is None or (item.sid_hash is not None and item.sid_hash == self.sid_hash))
            and (self.sub is None or (item.sub_hash is not None and item.sub_hash == self.sub_hash))
        )

    def _lets_event(self, delivered: DeliveredEvent) -> bool:
        if self.reason is not None:
            return False
        event = delivered.event
        return event is None or (
            self.iss in (None, event.iss)
            and self.kind in (None, event.kind)
            and self.sid in (None, event.sid)
            and self.sub in (None, event.sub)
            and self._lets_text(delivered)
        )

    def _lets_text(self, item: DeliveredEvent | RefusalEntry) -> bool:
        return self.text is None or self.text.lower() in text_of(item)


def text_of(item: DeliveredEvent | RefusalEntry) -> str:
    """The searchable text in lower case: subject, sender and reason."""
    words: tuple[str | None, ...]
    if isinstance(item, RefusalEntry):
        words = (item.iss, item.aud, item.reason, item.rule, item.kid)
    elif (event := item.event) is None:
        words = (item.app,)
    else:
        words = (
            item.app, event.iss, event.sid, event.sub, event.source, *(event.client_ids or ()),
        )  # fmt: skip
    return " ".join(one for one in words if one).lower()


EVERYTHING = Filter()
