"""Rows with a verdict, on a terminal."""

from app.verdict import Row, Verdict, count

__all__ = ["Row", "Verdict", "count", "print_table"]


def print_table(rows: list[Row]) -> int:
    """Print the table and what follows from it; returns the exit status."""
    width = max(len(row.what) for row in rows)
    for row in rows:
        print(f"{row.verdict:<5}  {row.what:<{width}}  {row.detail}")
    wrong = sum(row.verdict is Verdict.WRONG for row in rows)
    print(f"\n{count(wrong, 'fault')}" if wrong else "\nnothing is wrong")
    return 1 if wrong else 0
