"""Ids as one path segment: which are encoded, and which are refused."""

from urllib.parse import unquote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sessions.api_client.path_segment import MAX_ID_LENGTH, InvalidId, path_segment


@pytest.mark.parametrize(
    ("given", "encoded"),
    [
        ("08a5019c-17e1-4977-8f42-65a12843ea02", "08a5019c-17e1-4977-8f42-65a12843ea02"),
        ("auth0|5f7c8ec7c33c6c004bbafe82", "auth0%7C5f7c8ec7c33c6c004bbafe82"),
        ("a b+c?d#e&f=g;h:i@j", "a%20b%2Bc%3Fd%23e%26f%3Dg%3Bh%3Ai%40j"),
        ("100%", "100%25"),
        ("a..b", "a..b"),
        ("Zoë", "Zo%C3%AB"),
    ],
)
def test_an_id_is_encoded_as_one_segment(given: str, encoded: str) -> None:
    assert path_segment(given) == encoded


@pytest.mark.parametrize(
    "trick",
    [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "../users",
        "..\\users",
        "%2e%2e",
        "..%2fusers",
        "a%2Fb",
        "a%252fb",
        "a%00",
        "a\0b",
        "a\nb",
        "a\r\nX-Evil: 1",
        "a\u2028b",
        "\u202eabc",
        "a\ud800b",
        "x" * (MAX_ID_LENGTH + 1),
    ],
)
def test_a_trick_in_an_id_is_refused_without_an_echo(trick: str) -> None:
    with pytest.raises(InvalidId) as fault:
        path_segment(trick)
    assert len(trick) < 3 or trick not in str(fault.value)


@given(st.text(max_size=MAX_ID_LENGTH + 2))
def test_an_accepted_id_remains_one_segment_of_the_sent_url(value: str) -> None:
    try:
        encoded = path_segment(value)
    except InvalidId:
        return
    url = httpx.URL(f"https://op.example/api/v2/sessions/{encoded}/revoke")
    path = url.raw_path.decode("ascii")
    assert path.count("/") == 5
    assert "?" not in path
    assert unquote(urlsplit(path).path.split("/")[4]) == value
