"""The form's one token, with and without the shortcut for a single field."""

import pytest

from app.backchannel.form import MAX_BODY, read_token
from app.errors import Reason, TokenRefused
from tests.support.providers.encryption import RSA, decryption_key, encrypt
from tests.support.providers.provider import Provider

FORM = "application/x-www-form-urlencoded"


def outcome(body: bytes) -> bytes | Reason:
    try:
        return read_token(FORM, body)
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
def test_a_single_field_is_read_like_one_of_several(body: bytes, expected: bytes | Reason) -> None:
    assert outcome(body) == expected
    assert outcome(body + b"&other=1") == expected
    assert outcome(b"other=1&" + body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"logout_token=" + b"%41" * 512, b"A" * 512),
        (b"logout_token=" + b"%41" * 513, Reason.FORM),
        (b"a=" + b"%41" * 5000 + b"&logout_token=x", b"x"),
        (b"%" * 600 + b"=1&logout_token=x", Reason.FORM),
        (b"%41" * 256 + b"&logout_token=" + b"%41" * 256, b"A" * 256),
        (b"%41" * 256 + b"&logout_token=" + b"%41" * 257, Reason.FORM),
        (b"&".join([b"%41" * 54] * 99) + b"&logout_token=x", Reason.FORM),
        (b"a&" * 99 + b"logout_token=x", b"x"),
        (b"a&" * 100 + b"logout_token=x", Reason.FORM),
        (b"%6Cogout%5ftoken=x", b"x"),
        (b"logout_token=x&logout%5ftoken=y", Reason.LOGOUT_TOKEN_REPEATED),
        (b"logout%token=x", Reason.LOGOUT_TOKEN_MISSING),
        (b"logout_token=%41=%3d", b"A=="),
        (b"logout_token=" + b"x" * (16 * 1024 - 13), b"x" * (16 * 1024 - 13)),
        (b"logout_token=" + b"x" * (16 * 1024 - 12), Reason.BODY_TOO_LARGE),
    ],
)
def test_an_expensive_form_is_refused_before_it_is_decoded(
    body: bytes, expected: bytes | Reason
) -> None:
    assert outcome(body) == expected


def test_an_encrypted_token_with_very_many_claims_fits() -> None:
    """Real ones have less than 1 KiB of claims."""
    key = decryption_key(RSA)
    with Provider() as provider:
        token = encrypt(provider.token(roles=["role-of-the-user"] * 300), key, enc="A128CBC-HS256")
    assert 10_000 < len(token) < MAX_BODY
    assert outcome(b"logout_token=" + token.encode()) == token.encode()
