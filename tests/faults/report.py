"""Reports the seed at the start, and one line per fault at the end; all of them as JSON too."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from tests.faults.ledger import Verdict

SEED = "FAULTS_SEED"
FILE = "FAULTS_FILE"
"""Where the verdicts go, a JSON object a line."""

PROPERTY = "fault"


def seed() -> int:
    return int(os.environ[SEED])


def pytest_configure() -> None:
    """One seed for all workers, which inherit the environment of this process."""
    os.environ.setdefault(SEED, str(random.SystemRandom().randrange(1_000_000)))


def pytest_report_header() -> str:
    return f"faults: {SEED}={seed()}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    lines = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if lines:
        terminalreporter.section(f"faults, {SEED}={seed()}")
        for line in sorted(lines):
            terminalreporter.write_line(line)


def append_verdict(verdict: Verdict, root: Path) -> None:
    """Append it to the file with a single write, so that workers do not mix their lines."""
    path = Path(os.environ.get(FILE) or root / ".cache" / "faults.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(verdict.members()) + "\n")


def line(verdict: Verdict) -> str:
    """One line for people."""
    answered = ", ".join(f"{count} of {name}" for name, count in sorted(verdict.answered.items()))
    errors = ", ".join(f"{count} {name}" for name, count in sorted(verdict.errors.items()))
    columns = {
        "sent": verdict.sent,
        "answered": answered,
        "without answer": errors or 0,
        "lost": verdict.lost,
        "wrongly dead": verdict.wrongly_dead,
        "wrong answers": verdict.wrong_answers,
        "duplicates": verdict.duplicates,
        "first 200 after": format_seconds(verdict.first_200),
        "caught up after": format_seconds(verdict.caught_up),
        "slowest": format_seconds(verdict.slowest),
        **verdict.notes,
    }
    return f"{verdict.fault}: " + "; ".join(f"{name} {value}" for name, value in columns.items())


def format_seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder as slow."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.slow)
