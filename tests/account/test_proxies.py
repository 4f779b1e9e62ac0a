"""Which requests and headers an app's route forwards."""

import re
from typing import Any

import pytest

from backchannel_logout.account import AccountProxy
from backchannel_logout.contract.session import MEMBER
from tests.account.account_fixture import SHOP_TOKEN, AccountClient
from tests.support.servers.redis_server import free_port

SAME = {"x-requested-with": "test", "sec-fetch-site": "same-origin"}


def proxy(account: AccountClient) -> AccountProxy:
    return AccountProxy(account.url, SHOP_TOKEN)


@pytest.mark.parametrize(
    "headers", [{}, {"x-requested-with": "x", "sec-fetch-site": "cross-site"},
                {"x-requested-with": "x", "sec-fetch-site": "same-site"},
                {"x-requested-with": "x", "sec-fetch-site": "none"}, {"x-requested-with": ""},
                {"host": "shop.example", "origin": "http://other.example"},
                {"host": "shop.example", "origin": "http://shop.example:8080"},
                {"host": "shop.example:8080", "origin": "http://shop.example"},
                {"host": "shop.example", "origin": "null"}, {"host": "shop.example", "origin": ""},
                {"host": "shop.example", "origin": "shop.example"}, {"origin": "http://"},
                {"host": "shop.example", "origin": "http://shop.example.other.example"},
                {"host": "shop.example", "origin": "http://shop.example", "sec-fetch-site": "none"},
                {"host": "shop.example", "origin": "http://shop.example@other.example"}],
)  # fmt: skip
def test_a_delete_of_another_site_is_not_passed_on(
    alice: AccountClient, headers: dict[str, str]
) -> None:
    own, other = alice.tenant.add(alice.user), alice.tenant.add(alice.user)
    session = alice.session(own)
    answer = proxy(alice).answer("DELETE", f"/sessions/{other}", session, headers)
    assert answer.status == 403
    assert other in alice.tenant.alive()


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "same-origin"}, {"x-requested-with": "x"},
     {"host": "shop.example", "origin": "http://shop.example"},
     {"host": "Shop.example:8080", "origin": "http://shop.example:8080"},
     {"host": "shop.example:443", "origin": "https://shop.example"},
     {"host": "[::1]:8000", "origin": "http://[::1]:8000"}],
)  # fmt: skip
def test_a_delete_of_the_apps_own_page_is_passed_on(
    alice: AccountClient, headers: dict[str, str]
) -> None:
    own, other = alice.tenant.add(alice.user), alice.tenant.add(alice.user)
    answer = proxy(alice).answer("DELETE", f"/sessions/{other}", alice.session(own), headers)
    assert answer.status == 200


@pytest.mark.parametrize("path", ["/../api/overview", "/sessions/..", "//x", "/a?b", "/a#b", "x"])
def test_a_path_that_is_none_of_these_is_not_passed_on(alice: AccountClient, path: str) -> None:
    assert proxy(alice).answer("GET", path, {}, {}).status == 404


@pytest.mark.parametrize(
    "session", [{}, {"name": "Alice"}, {"iss": "x", "login_at": "y"}, {MEMBER: "x"}]
)
def test_who_is_not_signed_in_is_not_passed_on(
    alice: AccountClient, session: dict[str, Any]
) -> None:
    assert proxy(alice).answer("GET", "/sessions", session, SAME).status == 401


@pytest.mark.parametrize("form", ["remembered", "of an earlier release"])
def test_the_login_is_found_in_the_apps_session(alice: AccountClient, form: str) -> None:
    """What the app has under the same names is not taken for it."""
    own = alice.tenant.add(alice.user)
    login = alice.session(own)
    session = login if form != "remembered" else {MEMBER: login, "sid": "cart", "sub": "x"}
    answer = proxy(alice).answer("GET", "/sessions", session | {"cart": 1}, SAME)
    assert answer.status == 200
    assert own in answer.body.decode()


@pytest.mark.parametrize(
    ("mounted", "address"),
    [("/account", "/account/"), ("/me/security", "/me/security/"), ("/me/", "/me/"), ("", "/"),
     ("/i/me & <b>", "/i/me%20%26%20%3Cb%3E/"), ("//elsewhere.example", "/elsewhere.example/")],
)  # fmt: skip
@pytest.mark.parametrize("path", ["", "/"])
def test_the_page_names_its_files_below_where_it_is_mounted(
    alice: AccountClient, mounted: str, address: str, path: str
) -> None:
    page = proxy(alice).answer("GET", path, {}, {}, mounted=mounted)
    named = re.findall(r'(?:href|src)="(/[^"]*)"', page.body.decode())
    assert named == [f"{address}page.css", f"{address}active-sessions.js"]
    lengths = [value for name, value in page.headers if name.lower() == "content-length"]
    assert lengths == [str(len(page.body))]


def test_a_receiver_that_is_away_is_503_with_when_to_come_back(alice: AccountClient) -> None:
    away = AccountProxy(f"http://127.0.0.1:{free_port()}", SHOP_TOKEN)
    answer = away.answer("GET", "/sessions", alice.session("s"), SAME)
    assert answer.status == 503
    assert ("Retry-After", "5") in answer.headers
