"""Whether an app has acted on a logout, from its own reports.

Readers report how far they have read (`readers`), listeners which events they have handled
(`receipts`).
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
    """A listener has handled it; in broadcast mode, every replica that reads now."""
    SEEN = "seen"
    """Every guard with a near cache knows it; a guard without one asks Redis anyway."""
    ASKS = "asks"
    """The app asks Redis at each check and does nothing else: it cannot be behind. The status stays
    while the app has no requests."""
    WAITING = "waiting"
    """A reader has not reached it yet, or is retrying."""
    FAILED = "failed"
    """A listener has given up; the event is among the dead letters."""
    SILENT = "silent"
    """The app has had readers, and has none now."""
    NOBODY = "nobody"
    """The app has never reported: it has no readers, or may not report."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The status, and its evidence: ``seen`` of ``readers`` processes that read every event are
    past this one; ``seconds`` passed from its arrival until the first listener had handled it, None
    if none has."""

    status: AppStatus
    seen: int
    readers: int
    seconds: float | None = None


def prove(
    event: str, readers: Iterable[Reader], receipts: Iterable[Receipt], *, now: float
) -> Proof:
    """What an app has done about the event with this id of its stream.

    ``receipts`` may include those of other events; ``now`` is epoch seconds. Receipts are trimmed:
    an old logout may look as if it was never handled. Raises ``ValueError`` if ``event`` is not an
    id.
    """
    at = stream_id(event)
    all_readers, all_receipts = list(readers), list(receipts)
    active = [reader for reader in all_readers if is_active(reader, now)]
    own = [receipt for receipt in all_receipts if receipt.event == event]
    done = [receipt for receipt in own if receipt.outcome is Outcome.DONE]

    # Replicas of a group share the events: each of them reads only a part.
    watching = [
        reader for reader in active if reader.kind in (ReaderKind.CACHE, ReaderKind.BROADCAST)
    ]
    behind = [reader for reader in watching if not _is_past(reader, at)]
    kinds = {reader.kind for reader in active}

    if any(receipt.outcome is Outcome.DEAD and not _done_by(receipt, done) for receipt in own):
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
        seconds=min((receipt.seconds for receipt in done), default=None),
    )


def _is_past(reader: Reader, at: tuple[int, int]) -> bool:
    try:
        return reader.position is not None and stream_id(reader.position) >= at
    except ValueError:
        return False


def _done_by(dead: Receipt, done: Iterable[Receipt]) -> bool:
    """Whether the same listener has handled it after all."""
    return any(receipt.listener == dead.listener for receipt in done)
