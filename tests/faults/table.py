"""``python -m tests.faults.table [file]``: the verdicts as a Markdown table.

The runs of a fault share one row: counts are added, and of times the worst is kept.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults.ledger import Verdict
from tests.faults.report import format_seconds

_HEAD = (
    "fault", "runs", "sent", "200", "400", "503", "no answer", "lost", "wrongly dead",
    "wrong answers", "events twice", "first 200 after", "all in Redis after", "slowest answer",
)  # fmt: skip


def table(verdicts: Sequence[Verdict]) -> str:
    """One row per fault, in the order of their names."""
    seeds = sorted({verdict.seed for verdict in verdicts})
    rows = [
        _row(name, [verdict for verdict in verdicts if verdict.fault == name])
        for name in sorted({verdict.fault for verdict in verdicts})
    ]
    lines = [_HEAD, ("---",) * len(_HEAD), *rows]
    text = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    return f"Seeds: {', '.join(map(str, seeds))}\n\n{text}"


def _row(name: str, runs: list[Verdict]) -> Sequence[Any]:
    answered: Counter[str] = sum((Counter(run.answered) for run in runs), Counter())
    errors: Counter[str] = sum((Counter(run.errors) for run in runs), Counter())
    added = ("lost", "wrongly_dead", "wrong_answers", "duplicates")
    return (
        name,
        len(runs),
        sum(run.sent for run in runs),
        *(answered[status] for status in ("200", "400", "503")),
        ", ".join(f"{count} {way}" for way, count in sorted(errors.items())) or 0,
        *(sum(getattr(run, column) for run in runs) for column in added),
        *(_worst([getattr(run, column) for run in runs]) for column in ("first_200", "caught_up")),
        _worst([run.slowest for run in runs]),
    )


def _worst(times: list[float | None]) -> str:
    return format_seconds(
        None if None in times else max(time for time in times if time is not None)
    )


if __name__ == "__main__":
    source = Path(sys.argv[1] if len(sys.argv) > 1 else ".cache/faults.jsonl")
    print(table([Verdict(**json.loads(line)) for line in source.read_text().splitlines()]))
