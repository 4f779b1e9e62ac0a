"""Times of teardown as the points of a small picture. Pure."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 240, 48


@dataclass(frozen=True, slots=True)
class Plot:
    """``points`` are for an SVG polyline in `WIDTH` times `HEIGHT`, of ``count`` times; the others
    are of the same times, in seconds."""

    points: str
    median: float
    slowest: float
    count: int


def plot(seconds: Sequence[float]) -> Plot | None:
    """From the oldest to the newest; None where there is nothing to show."""
    if not seconds:
        return None
    top = max(*seconds, 0.001)
    step = WIDTH / max(1, len(seconds) - 1)
    shown = [*seconds] if len(seconds) > 1 else [*seconds, *seconds]
    places = (
        f"{min(i * step, WIDTH):.1f},{HEIGHT - 2 - one / top * (HEIGHT - 4):.1f}"
        for i, one in enumerate(shown)
    )
    return Plot(" ".join(places), statistics.median(seconds), max(seconds), len(seconds))
