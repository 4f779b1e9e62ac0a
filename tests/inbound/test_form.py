"""The form's one token: read the short way where that says the same."""

import pytest

from app.errors import Reason, TokenRefused
from app.inbound.form import read_whole

FORM = "application/x-www-form-urlencoded"


def outcome(body: bytes) -> bytes | Reason:
    try:
        return read_whole(FORM, body)
    except TokenRefused as error:
        return error.reason


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"logout_token=a.b.c", b"a.b.c"),
        (b"logout_token=a=b", b"a=b"),
        (b"logout_token==", b"="),
        (b"logout_token= a;b ", b" a;b "),
        (b"logout_token=\xff\x00", b"\xff\x00"),
        (b"logout_token=a+b", b"a b"),
        (b"logout_token=a%2Eb", b"a.b"),
        (b"logout_token=%", b"%"),
        (b"logout_token=", Reason.LOGOUT_TOKEN_MISSING),
        (b"logout_token", Reason.LOGOUT_TOKEN_MISSING),
        (b"logout_tokens=a", Reason.LOGOUT_TOKEN_MISSING),
        (b" logout_token=a", Reason.LOGOUT_TOKEN_MISSING),
        (b"logout_token=a&logout_token=b", Reason.LOGOUT_TOKEN_REPEATED),
    ],
)
def test_a_field_alone_is_read_as_it_is_beside_another(
    body: bytes, expected: bytes | Reason
) -> None:
    assert outcome(body) == expected
    assert outcome(body + b"&other=1") == expected
    assert outcome(b"other=1&" + body) == expected
