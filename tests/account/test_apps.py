"""The account's route in an app of each framework, over HTTP: all answer alike."""

import json
import secrets
from collections.abc import Iterator

import httpx
import pytest

from tests.account.account_fixture import USER_PACE, AccountClient
from tests.account.app_process import running_apps, sign_in_query
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow

KINDS = ["starlette", "flask", "django-asgi", "django-wsgi"]
SAME = {"sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def apps(account: AccountClient) -> Iterator[dict[str, str]]:
    with running_apps(account, *KINDS) as running:
        yield running


@pytest.fixture(params=KINDS)
def app(request: pytest.FixtureRequest, apps: dict[str, str]) -> Iterator[httpx.Client]:
    """Somebody's browser, before the app."""
    with httpx.Client(
        base_url=apps[request.param], trust_env=False, timeout=20, follow_redirects=True
    ) as client:
        yield client


def sign_in(app: httpx.Client, alice: AccountClient) -> tuple[str, str]:
    """The ids of this session and of another one of the same user. They need not be plain."""
    own, other = (alice.tenant.add(alice.user, f"s|{secrets.token_hex(4)}:1") for _ in range(2))
    query = sign_in_query(alice.session(own))
    assert app.get("/sign-in", params=query).status_code == 200
    return own, other


def test_each_framework_lists_ends_and_follows(app: httpx.Client, alice: AccountClient) -> None:
    own, other = sign_in(app, alice)
    listed = app.get("/account/sessions")
    assert listed.headers["cache-control"] == "no-store"
    assert [(one["id"], one["current"]) for one in listed.json()] == [(own, True), (other, False)]

    ended = app.delete(f"/account/sessions/{other}", headers=SAME)
    assert (ended.status_code, ended.json()["id"]) == (200, other)

    state = f"/account/sessions/{other}/state"
    wait_for(lambda: app.get(state).json()["apps"]["told"] == 2, "both were told", every=USER_PACE)
    assert [one["id"] for one in app.get("/account/sessions").json()] == [own]
    assert alice.tenant.alive() == {own}


def test_each_framework_ends_all_others(app: httpx.Client, alice: AccountClient) -> None:
    own, other = sign_in(app, alice)
    answer = app.delete("/account/sessions", headers=SAME)
    assert [one["id"] for one in answer.json()["sessions"]] == [other]
    wait_for(lambda: alice.tenant.alive() == {own}, "the other one is gone")


def test_events_come_where_they_occupy_no_worker(app: httpx.Client, alice: AccountClient) -> None:
    _, other = sign_in(app, alice)
    app.delete(f"/account/sessions/{other}", headers=SAME)
    with app.stream("GET", f"/account/sessions/{other}/events") as answer:
        if answer.status_code == 406:  # Flask and Django: the component asks for the state
            assert json.loads(answer.read()) == {"error": "no_event_stream"}
            return
        assert answer.headers["content-type"].startswith("text/event-stream")
        data = (json.loads(one[6:]) for one in answer.iter_lines() if one.startswith("data: "))
        assert next(data)["id"] == other


def test_what_is_refused_is_refused_alike(app: httpx.Client, alice: AccountClient) -> None:
    assert app.get("/account/sessions").status_code == 401
    own, other = sign_in(app, alice)
    path = f"/account/sessions/{other}"
    assert app.delete(path).status_code == 403
    assert app.delete(path, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert app.post(path, headers=SAME).status_code in (404, 405)
    assert app.delete("/account/sessions/nobodys", headers=SAME).status_code == 404
    assert app.get("/account/elsewhere").status_code == 404
    assert alice.tenant.alive() == {own, other}


def test_page_and_component_come_with_their_policy(app: httpx.Client) -> None:
    page = app.get("/account")
    assert "<active-sessions" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    script = app.get("/account/active-sessions.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["x-content-type-options"] == "nosniff"


def test_an_answer_that_limits_comes_through_with_when_to_come_back(
    app: httpx.Client, alice: AccountClient
) -> None:
    sign_in(app, alice)
    answers = [app.delete("/account/sessions/nothing", headers=SAME) for _ in range(40)]
    limited = [one for one in answers if one.status_code == 429]
    assert limited
    assert int(limited[0].headers["retry-after"]) >= 1
