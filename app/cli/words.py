"""Times and lengths of time, as arguments of a command."""

import argparse
import math
from datetime import UTC, datetime

from app.settings_values import seconds


def time_argument(text: str) -> float:
    """Epoch seconds, or ISO 8601; for argparse."""
    try:
        when = float(text)
    except ValueError:
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            when = math.nan
        else:
            when = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(when):
        raise argparse.ArgumentTypeError("epoch seconds, or ISO 8601 such as 2026-11-21T18:44:01Z")
    return when


def duration_argument(text: str) -> float:
    """A number of seconds, or a text such as ``90s``, ``10m``; for argparse."""
    try:
        return seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
