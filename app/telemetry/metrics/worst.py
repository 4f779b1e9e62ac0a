"""Chooses the apps whose readings are shown where there are too many: the worst. Pure."""

import heapq
from collections.abc import Collection, Mapping

from app.telemetry.metrics.app_reading import AppReading
from backchannel_logout.contract.readers import ReaderKind

# After this time without a report, an app's listeners are gone.
_SILENT_SECONDS = 300.0


def worst_apps(
    readings: Mapping[str, AppReading],
    faulty: Collection[str],
    requested: Collection[str],
    number: int,
    now: float,
) -> list[str]:
    """The ``requested`` apps, then those with a fault, up to ``number`` in all.

    ``faulty`` are those that Redis refuses. Takes some milliseconds for 10,000 apps.
    """
    if len(readings) <= number:
        return list(readings)
    asked = [app for app in requested if app in readings]

    def badness(app: str) -> tuple[float, ...]:
        reading = readings[app]
        report = reading.last_report
        silent = (
            report is not None
            and now - report > _SILENT_SECONDS
            and not reading.readers.get(ReaderKind.ASKS)
        )
        return (
            (app in faulty)
            + (reading.beyond is not None)
            + bool(reading.dead_letters)
            + silent
            + ((reading.lag or 0) > 0)
            + ((reading.pending or 0) > 0),
            now - reading.at if reading.at is not None else 0.0,
            (reading.written_bytes or 0) + (reading.events_bytes or 0),
        )

    left = max(0, number - len(asked))
    others = readings.keys() - asked
    return asked + heapq.nlargest(left, others, key=badness)
