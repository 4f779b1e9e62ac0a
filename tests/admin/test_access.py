"""Authentication of the admin API."""

from typing import Any

import pytest

from app.admin.access import Access, new_token
from app.admin.auth_throttle import (
    MAX_OVERALL,
    MAX_PEERS,
    MAX_PER_KNOWN_PEER,
    MAX_PER_PEER,
    WINDOW_SECONDS,
    AuthThrottle,
)
from app.web.errors import ApiError
from tests.support.clock import Clock

TOKEN = "the-admin-token-of-this-test"
GOOD = {"host": "localhost:9000", "authorization": f"Bearer {TOKEN}"}


def request(
    headers: dict[str, str] | list[tuple[str, str]], peer: str = "192.0.2.9"
) -> dict[str, Any]:
    pairs = headers.items() if isinstance(headers, dict) else headers
    return {
        "type": "http",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in pairs],
        "client": (peer, 40000),
        "server": ("10.1.2.3", 9000),
    }


def refused(access: Access, headers: Any, peer: str = "192.0.2.9") -> ApiError:
    with pytest.raises(ApiError) as caught:
        access.authenticate(request(headers, peer))
    return caught.value


def test_the_token_lets_in_and_says_where_from() -> None:
    operator = Access(TOKEN).authenticate(request(GOOD))
    assert (operator.who, operator.peer) == ("admin-api", "192.0.2.9")


@pytest.mark.parametrize(
    "shown",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN} {TOKEN}",
        "Bearer \xff\xfe",
    ],
)
def test_anything_else_is_unauthorized(shown: str | None) -> None:
    headers = {"host": "localhost"} | ({} if shown is None else {"authorization": shown})
    fault = refused(Access(TOKEN), headers)
    assert (fault.status, fault.code) == (401, "unauthorized")
    assert fault.headers["WWW-Authenticate"].startswith("Bearer")
    assert TOKEN not in str(fault.body)


def test_two_tokens_in_one_request_are_none() -> None:
    pairs = [*GOOD.items(), ("authorization", f"Bearer {TOKEN}")]
    assert refused(Access(TOKEN), pairs).status == 401


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:9000", "127.0.0.1", "127.0.0.1:80", "[::1]:9000",
        "10.1.2.3:9000", "ops.example", "ops.example:9000", "OPS.example",
    ],
)  # fmt: skip
def test_the_host_may_be_loopback_the_own_address_or_a_name_of_the_settings(host: str) -> None:
    assert Access(TOKEN, ["ops.example"]).authenticate(request(GOOD | {"host": host}))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.1.2.4", "", "::1",
        "ops.example@evil.example", "localhost:port", "localhost/", "ops.example.", " ", "[::1",
    ],
)  # fmt: skip
def test_any_other_host_is_refused_also_with_the_token(host: str) -> None:
    fault = refused(Access(TOKEN, ["ops.example"]), GOOD | {"host": host})
    assert (fault.status, fault.code) == (403, "host_not_allowed")


def test_a_request_without_a_host_or_with_two_is_refused() -> None:
    access = Access(TOKEN)
    assert refused(access, {"authorization": GOOD["authorization"]}).status == 403
    assert refused(access, [*GOOD.items(), ("host", "localhost")]).status == 403


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({"origin": "http://localhost:9000"}, True),
        ({"origin": "https://localhost:9000"}, True),  # behind a proxy that ends TLS
        ({"origin": "http://localhost:8000"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://["}, False),
        ({"origin": "http://[localhost]:9000"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://localhost:9000"}, False),
    ],
)
def test_a_page_of_another_origin_is_refused(headers: dict[str, str], let_in: bool) -> None:
    access = Access(TOKEN)
    if let_in:
        assert access.authenticate(request(GOOD | headers))
    else:
        assert refused(access, GOOD | headers).code == "foreign_origin"


@pytest.mark.parametrize(("wrong", "status"), [(MAX_PER_PEER, 200), (MAX_PER_KNOWN_PEER, 429)])
def test_an_address_that_was_right_before_may_be_wrong_more_often(wrong: int, status: int) -> None:
    """People behind one proxy: ten wrong tokens of one must not shut out the others."""
    access = Access(TOKEN, clock=Clock())
    assert access.authenticate(request(GOOD))
    for _ in range(wrong):
        assert refused(access, WRONG).status == 401
    if status == 200:
        assert access.authenticate(request(GOOD))
    else:
        assert refused(access, GOOD).status == status


WRONG = GOOD | {"authorization": "Bearer wrong"}


def test_who_is_wrong_too_often_waits_also_with_the_right_token() -> None:
    clock = Clock()
    access = Access(TOKEN, clock=clock)
    for _ in range(MAX_PER_PEER):
        assert refused(access, WRONG).status == 401
        clock.now += 1
    fault = refused(access, GOOD)
    assert (fault.status, fault.headers) == (429, {"Retry-After": str(60 - MAX_PER_PEER)})
    assert access.authenticate(request(GOOD, peer="192.0.2.10"))
    clock.now += WINDOW_SECONDS
    assert access.authenticate(request(GOOD))


def test_the_right_token_forgives_what_was_mistyped() -> None:
    access = Access(TOKEN, clock=Clock())
    for _ in range(3 * MAX_PER_PEER):
        assert refused(access, WRONG).status == 401
        assert access.authenticate(request(GOOD))


def test_a_request_without_a_token_guesses_nothing_and_counts_for_nothing() -> None:
    access = Access(TOKEN, clock=Clock())
    for _ in range(3 * MAX_PER_PEER):
        assert refused(access, {"host": "localhost"}).status == 401
    assert access.authenticate(request(GOOD))


def test_many_wrong_peers_shut_out_strangers_and_nobody_who_was_right_before() -> None:
    clock = Clock()
    access = Access(TOKEN, clock=clock)
    access.authenticate(request(GOOD, peer="198.51.100.1"))
    for n in range(MAX_OVERALL):
        assert refused(access, WRONG, peer=f"192.0.2.{n}").status == 401
    assert refused(access, GOOD, peer="203.0.113.1").status == 429
    assert access.authenticate(request(GOOD, peer="198.51.100.1"))
    clock.now += WINDOW_SECONDS
    assert access.authenticate(request(GOOD, peer="203.0.113.1"))


def test_the_memory_of_peers_is_bounded() -> None:
    failures = AuthThrottle(Clock())
    for n in range(2 * MAX_PEERS):
        failures.failed(f"peer {n}")
        failures.succeeded(f"friend {n}")
    assert len(failures._failed) == len(failures._succeeded) == MAX_PEERS


def test_a_made_token_is_long_and_never_the_same() -> None:
    assert len(new_token()) >= 43
    assert new_token() != new_token()
