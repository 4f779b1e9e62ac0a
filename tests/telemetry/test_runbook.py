"""Whoever is told a reason finds it in the runbook."""

import re
from pathlib import Path

import pytest

from app.errors import Outage, Reason

RUNBOOK = (Path(__file__).parents[2] / "docs/runbook.md").read_text()
# Up to the next part of the same rank.
REFUSALS = re.split(r"^## ", RUNBOOK.partition("\n## Refusals\n")[2], flags=re.MULTILINE)[0]
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in REFUSALS.splitlines()
    if line.startswith("| `")
]


@pytest.mark.parametrize("reason", [*Reason, *Outage])
def test_each_reason_says_what_it_means_how_to_confirm_it_and_what_to_do(reason: str) -> None:
    (row,) = (row for row in ROWS if f"`{reason}`" in row[0])
    assert len(row) == 4
    assert all(len(cell) > 6 for cell in row[1:])


def test_no_row_is_about_a_reason_that_there_is_not() -> None:
    named = {name for row in ROWS for name in re.findall(r"`([a-z_]+)`", row[0])}
    assert named == {*Reason, *Outage}
