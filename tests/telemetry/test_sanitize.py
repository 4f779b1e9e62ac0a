"""Text that anybody may have written, as it can be shown."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.telemetry.sanitize import audiences, bounded, number, text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("https://op.example/", "https://op.example/"),
        ("a\nb\x1b[2J\x00", "a\\nb\\x1b[2J\\x00"),
        ("\u202ereversed", "\\u202ereversed"),
        ("é" * 30, "é" * 8 + "…"),
        ("x" * 21, "x" * 17 + "…"),
        ("x" * 20, "x" * 20),
        (None, "null"),
        (True, "true"),
        (5, "5"),
        ({"a": "secret"}, "{…}"),
        (["secret"], "[…]"),
        ([], "[]"),
    ],
)
def test_a_member_is_one_short_line(value: Any, shown: str) -> None:
    assert text({"m": value}, "m", 20) == shown


def test_a_member_that_is_not_there_is_not_shown() -> None:
    assert text({}, "m", 20) is number({}, "m") is audiences({}, 100) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1795283041, "1795283041"),
        (1.5, "1.5"),
        ("1795283041", "string of 10"),
        ("anna@shop.example", "string of 17"),
        (None, "null"),
        (True, "boolean"),
        ({"name": "anna"}, "object of 1"),
        ([1, 2], "array of 2"),
        ("", "string of 0"),
    ],
)
def test_of_what_is_no_number_only_type_and_length_are_shown(value: Any, shown: str) -> None:
    assert number({"m": value}, "m") == shown


@pytest.mark.parametrize(
    ("aud", "shown"),
    [
        ("shop-web-2", "shop-web-2"),
        (["shop-web", "wiki"], ["shop-web", "wiki"]),
        (["a", 7, None], ["a", "7", "null"]),
        ([str(n) for n in range(30)], [*(str(n) for n in range(20)), "…"]),
        (["x" * 200, "y"], ["x" * 147 + "…", "y"]),
        ([], []),
        ({"a": 1}, "{…}"),
    ],
)
def test_audiences_are_json_also_where_they_are_cut(aud: Any, shown: Any) -> None:
    found = audiences({"aud": aud}, 600)
    assert found is not None
    assert json.loads(found) == shown


@settings(deadline=None)  # a busy machine is no fault
@given(st.text(), st.integers(4, 100))
def test_nothing_is_longer_than_allowed_or_leaves_its_line(value: str, most: int) -> None:
    shown = bounded(value, most)
    assert len(shown.encode()) <= most
    assert shown.isprintable()
    if value.isprintable() and len(value.encode()) <= most:
        assert shown == value
