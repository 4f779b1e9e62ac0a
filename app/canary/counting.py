"""Counts the canary's tries for `/metrics`."""

from collections.abc import Callable

from app.canary.canary import Try
from app.telemetry.canary_outcome import CanaryOutcome
from app.telemetry.metrics.definitions import CANARY_ROW, CANARY_SECONDS, CANARY_TRIES
from app.telemetry.metrics.registry import Registry


def counted_in(registry: Registry) -> Callable[[Try], None]:
    """A function that counts one try. The registry's settings have a canary."""
    tries = registry.counters(CANARY_TRIES)
    failures = registry.gauge(CANARY_ROW)
    answer, marker, receipt = (
        registry.histogram(CANARY_SECONDS, stage) for stage in ("answer", "marker", "receipt")
    )

    def count(done: Try) -> None:
        failures.set(0 if done.outcome is CanaryOutcome.OK else failures.value + 1)
        tries[(done.outcome.value,)].inc()
        times = ((answer, done.to_answer), (marker, done.to_marker), (receipt, done.to_receipt))
        for histogram, seconds in times:
            if seconds is not None:
                histogram.observe(seconds)

    return count
