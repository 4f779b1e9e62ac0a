"""Rows with a verdict, for people: what `check`, `status` and the console show."""

from dataclasses import dataclass
from enum import StrEnum


class CheckVerdict(StrEnum):
    """The first column."""

    RIGHT = "ok"
    WRONG = "WRONG"
    WARNING = "warn"
    UNKNOWN = "?"
    NOTE = "note"
    """Neither right nor wrong: what a person has to know, or to do elsewhere."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    verdict: CheckVerdict
    what: str
    detail: str


def count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
