"""The apps' own routes: ASGI, Flask and Django pass on the same, and no cookie."""

from typing import Any

import flask
import pytest

from backchannel_logout.account import AccountProxy
from backchannel_logout.account.flask import account_blueprint
from tests.account.stage import SHOP_TOKEN, AccountScene
from tests.support.redis_server import free_port

SAME = {"x-requested-with": "test", "sec-fetch-site": "same-origin"}


def proxy(scene: AccountScene) -> AccountProxy:
    return AccountProxy(scene.url, SHOP_TOKEN)


def test_flask_lists_and_ends(alice: AccountScene) -> None:
    own, other = alice.tenant.add(alice.user), alice.tenant.add(alice.user)
    app = flask.Flask("shop")
    app.secret_key = "not a secret"
    app.register_blueprint(account_blueprint(alice.url, SHOP_TOKEN))
    client = app.test_client()
    with client.session_transaction() as session:
        session.update(alice.session(own))

    assert [one["id"] for one in client.get("/account/sessions").json["sessions"]] == [own, other]
    assert client.delete(f"/account/sessions/{other}").status_code == 403
    answer = client.delete(f"/account/sessions/{other}", headers={"X-Requested-With": "x"})
    assert answer.json["id"] == other
    assert client.get(f"/account/sessions/{other}/events").status_code == 406
    assert client.get("/account").status_code == 200
    assert client.get("/account/elsewhere").status_code == 404


@pytest.mark.parametrize(
    "headers", [{}, {"x-requested-with": "x", "sec-fetch-site": "cross-site"},
                {"x-requested-with": "x", "sec-fetch-site": "same-site"}],
)  # fmt: skip
def test_a_delete_of_another_site_is_not_passed_on(
    alice: AccountScene, headers: dict[str, str]
) -> None:
    own, other = alice.tenant.add(alice.user), alice.tenant.add(alice.user)
    session = alice.session(own)
    answer = proxy(alice).answer("DELETE", f"/sessions/{other}", session, headers)
    assert answer.status == 403
    assert other in alice.tenant.alive()


@pytest.mark.parametrize("path", ["/../api/overview", "/sessions/..", "//x", "/a?b", "/a#b", "x"])
def test_a_path_that_is_none_of_these_is_not_passed_on(alice: AccountScene, path: str) -> None:
    assert proxy(alice).answer("GET", path, {}, {}).status == 404


@pytest.mark.parametrize("session", [{}, {"name": "Alice"}, {"iss": "x", "login_at": "y"}])
def test_who_is_not_signed_in_is_not_passed_on(
    alice: AccountScene, session: dict[str, Any]
) -> None:
    assert proxy(alice).answer("GET", "/sessions", session, SAME).status == 401


def test_a_receiver_that_is_away_is_503_with_when_to_come_back(alice: AccountScene) -> None:
    away = AccountProxy(f"http://127.0.0.1:{free_port()}", SHOP_TOKEN)
    answer = away.answer("GET", "/sessions", alice.session("s"), SAME)
    assert answer.status == 503
    assert ("Retry-After", "5") in answer.headers
