"""The canary's tries in `/metrics`."""

from collections.abc import Callable

from app.canary.canary import Try
from app.telemetry.canary_found import CanaryCheck
from app.telemetry.metrics import CANARY_ROW, CANARY_SECONDS, CANARY_TRIES
from app.telemetry.shared_counters import ANSWER, MARKER, RECEIPT, Cells


def counted_in(cells: Cells) -> Callable[[Try], None]:
    """Counts each try that it is told of. The settings of ``cells`` have a canary."""
    tries = cells.counters(CANARY_TRIES)
    show_row, in_a_row = cells.gauge(CANARY_ROW), 0
    stages = {stage: cells.histogram(CANARY_SECONDS, stage) for stage in (ANSWER, MARKER, RECEIPT)}

    def count(done: Try) -> None:
        nonlocal in_a_row
        in_a_row = 0 if done.outcome is CanaryCheck.OK else in_a_row + 1
        show_row(in_a_row)
        tries[(done.outcome.value,)]()
        times = {ANSWER: done.to_answer, MARKER: done.to_marker, RECEIPT: done.to_receipt}
        for stage, seconds in times.items():
            if seconds is not None:
                stages[stage](seconds)

    return count
