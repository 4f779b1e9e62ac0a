"""The parts about readers: they measure every logout and lose none."""

import sys

import pytest

from bench import catch_up, delivery, near_cache, reader_cost
from bench.machine import cores
from bench.report import Result

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the bench needs Linux"),
    pytest.mark.slow,
]


@pytest.fixture(autouse=True)
def two_cores() -> None:
    if len(set(cores())) < 2:
        pytest.skip("one core for a server and one for its load")


def test_a_warm_check_does_not_ask_redis() -> None:
    result = near_cache.run(quick=True)
    assert [line.split(" |")[0] for line in result.table.splitlines()[2:4]] == [
        "| asyncio",
        "| threads",
    ]
    assert near_cache.bytes_each(1000) > 200, "a key of four members alone takes more"


def test_each_logout_is_handled_once_and_hops_are_measured() -> None:
    result = delivery.run(quick=True)
    for mode in ("group", "broadcast"):
        assert f"{mode}: POST to handler" in result.table
    assert len(result.claims) == 2


def test_a_listener_that_was_down_misses_nothing() -> None:
    lost = [claim for claim in catch_up.run(quick=True).claims if claim.what.startswith("lost")]
    assert [claim.held for claim in lost] == [True, True]


def test_blocked_tails_read_at_each_logout() -> None:
    none, fifty = _rows(reader_cost.run(quick=True))
    assert none[0] == "none"
    assert fifty[0] == "50, as the guard"
    assert float(fifty[5].replace(",", "")) > 50, "they read less than once a second"


def _rows(result: Result) -> list[list[str]]:
    lines = [line for line in result.table.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
