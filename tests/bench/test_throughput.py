"""Rows are measured in turn, and a failed row does not affect the others."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.servers import NotMeasured, Rig, Server, asgi
from bench.throughput import measure, ratios

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def _failing(rig: Rig) -> Iterator[Server]:
    """A server that answers 200 instead of 204."""
    with asgi.running(rig, "ceiling") as server:
        yield replace(server, success=204)


def _absent(_: Rig) -> contextlib.AbstractContextManager[Server]:
    raise NotMeasured("not installed")


def test_a_row_that_fails_or_is_absent_is_named_and_the_others_are_measured() -> None:
    rows = {
        "first": lambda rig: asgi.running(rig, "ceiling"),
        "absent": _absent,
        "failing": _failing,
    }
    measured, missing = measure(rows, "ES256", rounds=2, tokens=50)
    assert list(measured) == ["first"]
    assert missing["absent"] == "not installed"
    assert "answered {200: 40}" in missing["failing"]
    assert len(measured["first"].rates) == 2
    assert len(measured["first"].p99) == 1, "latency is measured in one round of several"
    assert ratios(measured, "first", "first") == [1.0, 1.0]
