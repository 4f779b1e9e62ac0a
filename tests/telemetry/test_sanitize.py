"""Values of untrusted tokens become bounded, printable text."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.telemetry.sanitize import audiences, bounded, number, text


@pytest.mark.parametrize(
    ("value", "result"),
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
def test_a_member_is_one_short_line(value: Any, result: str) -> None:
    assert text({"m": value}, "m", 20) == result


def test_an_absent_member_is_none() -> None:
    assert text({}, "m", 20) is number({}, "m") is audiences({}, 100) is None


@pytest.mark.parametrize(
    ("value", "result"),
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
def test_only_type_and_length_of_other_values_are_shown(value: Any, result: str) -> None:
    assert number({"m": value}, "m") == result


@pytest.mark.parametrize(
    ("aud", "result"),
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
def test_audiences_are_json_even_when_cut(aud: Any, result: Any) -> None:
    cut = audiences({"aud": aud}, 600)
    assert cut is not None
    assert json.loads(cut) == result


@settings(deadline=None)  # the machine may be busy
@given(st.text(), st.integers(4, 100))
def test_text_is_never_too_long_and_stays_on_one_line(value: str, max_bytes: int) -> None:
    result = bounded(value, max_bytes)
    assert len(result.encode()) <= max_bytes
    assert result.isprintable()
    if value.isprintable() and len(value.encode()) <= max_bytes:
        assert result == value
