"""Whether an app has acted on a logout, from what it tells of itself. Pure.

Readers report how far they have read (`readers`), listeners what they have handled (`receipts`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from backchannel_logout.contract.event import stream_id
from backchannel_logout.contract.readers import Reader, ReaderKind, is_active
from backchannel_logout.contract.receipts import Outcome, Receipt


class AppStatus(StrEnum):
    """How far an app is with one logout."""

    TORN_DOWN = "torn_down"
    """A listener has handled it; of a broadcast listener, every replica that reads now."""
    SEEN = "seen"
    """Every guard that keeps answers knows it; whoever has kept none asks Redis."""
    ASKS = "asks"
    """The app asks Redis at each check, and that is all it does: it cannot be behind, and stays so
    while it has no requests."""
    WAITING = "waiting"
    """Somebody reads and has not come to it, or tries again: not yet."""
    FAILED = "failed"
    """A listener has given it up; it is among the dead letters."""
    SILENT = "silent"
    """Somebody has read once, and nobody does now."""
    NOBODY = "nobody"
    """Nobody has ever reported: nobody reads, or it is an app that may not report."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The status, and what it rests on: ``seen`` of ``readers`` processes that see every event
    have come past it; ``seconds`` passed from its arrival until the first listener had handled it,
    None where none has."""

    status: AppStatus
    seen: int
    readers: int
    seconds: float | None = None


def prove(
    event: str, readers: Iterable[Reader], receipts: Iterable[Receipt], *, now: float
) -> Proof:
    """What an app has done about the event with this id of its stream.

    ``receipts`` may hold those of other events; ``now`` is epoch seconds. A receipt that has been
    trimmed is not there: an old logout may look as if nobody had handled it. Raises ``ValueError``
    where ``event`` is not an id.
    """
    at = stream_id(event)
    all_readers, all_receipts = list(readers), list(receipts)
    active = [one for one in all_readers if is_active(one, now)]
    own = [one for one in all_receipts if one.event == event]
    done = [one for one in own if one.outcome is Outcome.DONE]

    # A group's replicas share the events: each of them sees its share alone.
    watching = [one for one in active if one.kind in (ReaderKind.CACHE, ReaderKind.BROADCAST)]
    behind = [one for one in watching if not _is_past(one, at)]
    kinds = {one.kind for one in active}

    if any(one.outcome is Outcome.DEAD and not _done_by(one, done) for one in own):
        status = AppStatus.FAILED
    elif behind or (ReaderKind.GROUP in kinds and not done):
        status = AppStatus.WAITING
    elif done:
        status = AppStatus.TORN_DOWN
    elif watching:
        status = AppStatus.SEEN
    elif ReaderKind.ASKS in kinds:
        status = AppStatus.ASKS
    else:
        status = AppStatus.SILENT if all_readers or all_receipts else AppStatus.NOBODY
    return Proof(
        status,
        seen=len(watching) - len(behind),
        readers=len(watching),
        seconds=min((one.seconds for one in done), default=None),
    )


def _is_past(reader: Reader, at: tuple[int, int]) -> bool:
    try:
        return reader.position is not None and stream_id(reader.position) >= at
    except ValueError:
        return False


def _done_by(dead: Receipt, done: Iterable[Receipt]) -> bool:
    """Whether the same listener has handled it after all."""
    return any(one.listener == dead.listener for one in done)
