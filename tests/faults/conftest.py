"""The stage of a fault test; what it measured goes to the terminal and to a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.fault_fixture import Stage
from tests.faults.ledger import Verdict
from tests.faults.report import PROPERTY, line, seed, write_down


@pytest.fixture
def stage(tmp_path: Path, request: pytest.FixtureRequest, record_property: Any) -> Iterator[Stage]:
    def record(verdict: Verdict) -> None:
        record_property(PROPERTY, line(verdict))
        write_down(verdict, request.config.rootpath)

    with Stage(tmp_path, seed(), request.node.name, record) as stage:
        yield stage
