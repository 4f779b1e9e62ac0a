"""Every reason has a row in the runbook."""

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
def test_each_reason_has_a_meaning_a_confirmation_and_a_remedy(reason: str) -> None:
    (row,) = (row for row in ROWS if f"`{reason}`" in row[0])
    assert len(row) == 4
    assert all(len(cell) > 6 for cell in row[1:])


def test_no_row_names_a_reason_that_does_not_exist() -> None:
    named = {name for row in ROWS for name in re.findall(r"`([a-z_]+)`", row[0])}
    assert named == {*Reason, *Outage}
