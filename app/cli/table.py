"""Rows with a verdict, for people."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
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

    verdict: Verdict
    what: str
    detail: str


def count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def print_table(rows: list[Row]) -> int:
    """Print the table and what follows from it; returns the exit status."""
    width = max(len(row.what) for row in rows)
    for row in rows:
        print(f"{row.verdict:<5}  {row.what:<{width}}  {row.detail}")
    wrong = sum(row.verdict is Verdict.WRONG for row in rows)
    print(f"\n{count(wrong, 'fault')}" if wrong else "\nnothing is wrong")
    return 1 if wrong else 0
