"""The canary's tries in `/metrics`."""

from collections.abc import Callable

from app.telemetry.cells import ANSWER, MARKER, RECEIPT, Cells
from app.telemetry.metrics import CANARY_SECONDS, CANARY_TRIES

from .canary import Try


def counted_in(cells: Cells) -> Callable[[Try], None]:
    """Counts each try that it is told of. The settings of ``cells`` have a canary."""
    tries = cells.counters(CANARY_TRIES)
    stages = {stage: cells.histogram(CANARY_SECONDS, stage) for stage in (ANSWER, MARKER, RECEIPT)}

    def count(done: Try) -> None:
        tries[(done.outcome.value,)]()
        times = {ANSWER: done.to_answer, MARKER: done.to_marker, RECEIPT: done.to_receipt}
        for stage, seconds in times.items():
            if seconds is not None:
                stages[stage](seconds)

    return count
