"""Prints rows with a verdict."""

from app.formatting import escaped
from app.verdict import CheckVerdict, Row, count

__all__ = ["CheckVerdict", "Row", "count", "print_table"]


def print_table(rows: list[Row]) -> int:
    """Print the table and its result; returns 1 where something is wrong, else 0."""
    width = max((len(row.what) for row in rows), default=0)
    for row in rows:
        # Parts of it may be from Redis or a provider.
        print(f"{row.verdict:<5}  {escaped(f'{row.what:<{width}}  {row.detail}')}")
    wrong, warnings = (
        sum(row.verdict is verdict for row in rows)
        for verdict in (CheckVerdict.WRONG, CheckVerdict.WARNING)
    )
    result = [count(wrong, "fault")] if wrong else []
    result += [count(warnings, "warning")] if warnings else []
    unknown = sum(row.verdict is CheckVerdict.UNKNOWN for row in rows)
    if not result:
        result = ["nothing is wrong"] + ([f"{unknown} not known"] if unknown else [])
    print("\n" + ", ".join(result))
    return 1 if wrong else 0
