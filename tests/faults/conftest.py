"""The scenario of a fault test; its measurements go to the terminal and to a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.fault_fixture import Scenario
from tests.faults.ledger import Verdict
from tests.faults.report import PROPERTY, append_verdict, line, seed


@pytest.fixture
def scenario(
    tmp_path: Path, request: pytest.FixtureRequest, record_property: Any
) -> Iterator[Scenario]:
    def record(verdict: Verdict) -> None:
        record_property(PROPERTY, line(verdict))
        append_verdict(verdict, request.config.rootpath)

    with Scenario(tmp_path, seed(), request.node.name, record) as scenario:
        yield scenario
