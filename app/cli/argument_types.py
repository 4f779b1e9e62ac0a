"""Times and durations as arguments of a command."""

import argparse

from app.config.types import seconds
from app.formatting import TIME_FORMS, read_time


def time_argument(text: str) -> float:
    """A time in epoch seconds, for argparse."""
    try:
        return read_time(text)
    except ValueError:
        raise argparse.ArgumentTypeError(TIME_FORMS) from None


def duration_argument(text: str) -> float:
    """A number of seconds, or a text such as ``90s`` or ``10m``, for argparse."""
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
