"""Rows with a verdict, as `check`, `status` and the console show them."""

from dataclasses import dataclass
from enum import StrEnum


class CheckVerdict(StrEnum):
    """The first column."""

    RIGHT = "ok"
    WRONG = "WRONG"
    WARNING = "warn"
    UNKNOWN = "?"
    NOTE = "note"
    """Information, or something to do elsewhere."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    verdict: CheckVerdict
    what: str
    detail: str


def count(number: int, noun: str) -> str:
    """The number with its noun, in the plural where needed."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
