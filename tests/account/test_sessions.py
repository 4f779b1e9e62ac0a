"""`/account/sessions` over HTTP: only a user's own sessions."""

import json
import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sessions.termination.redis_records import OPEN, OPEN_USERS
from backchannel_logout.account import AccountProxy
from tests.account.account_fixture import (
    BOB,
    NEWS_TOKEN,
    ORIGIN,
    SHOP_TOKEN,
    USER_PACE,
    AccountClient,
    account_client,
    now,
    said,
)  # fmt: skip
from tests.support.providers.api_server import Response
from tests.support.providers.auth0_api import fault, limited
from tests.support.providers.provider import ABSENT
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
)


def test_the_list_has_auth0s_names_and_the_current_one_first(alice: AccountClient) -> None:
    device = {
        "initial_user_agent": IPHONE, "initial_ip": "192.0.2.7",
        "last_user_agent": FIREFOX, "last_ip": "203.0.113.7",
    }  # fmt: skip
    other = alice.tenant.add(alice.user)
    own = alice.tenant.add(alice.user, device=device)
    alice.tenant.add(BOB)

    answer = alice.ask("GET", "", alice.session(own))

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    first, second = answer.json()
    assert (first["id"], first["current"]) == (own, True)
    assert (second["id"], second["current"]) == (other, False)
    theirs = alice.tenant.sessions[own]
    for name in ("created_at", "updated_at", "authenticated_at", "idle_expires_at", "expires_at"):
        assert first[name] == theirs[name]
    assert first["device"] == device | {
        "browser": "Firefox 128", "os": "Windows", "kind": "desktop",
    }  # fmt: skip


def test_ending_one_answers_its_id_and_every_app_is_told_and_the_neighbour_lives(
    alice: AccountClient,
) -> None:
    own, other, third = (alice.tenant.add(alice.user) for _ in range(3))
    session = alice.session(own)

    answer = alice.ask("DELETE", f"/{other}", session)

    assert answer.status_code == 200
    assert answer.json()["id"] == other
    assert answer.json()["apps"]["total"] == 2
    assert alice.until_final(other, session)["state"] == "confirmed"
    assert set(alice.ids(session)) == {own, third}
    noted = [one for _, one in alice.redis.xrevrange("bcl:v1:audit", count=5)]
    assert any((one["act"], one["who"]) == ("account.session.end", "account:shop") for one in noted)


def test_all_others_end_and_the_current_one_lives(alice: AccountClient) -> None:
    own, *others = (alice.tenant.add(alice.user) for _ in range(3))
    bobs = alice.tenant.add(BOB)
    session = alice.session(own)

    answer = alice.ask("DELETE", "", session)

    assert answer.status_code == 200
    assert {one["id"] for one in answer.json()["sessions"]} == set(others)
    for one in others:
        alice.until_final(one, session)
    assert alice.ids(session) == [own]
    assert bobs in alice.tenant.alive()


def test_where_the_current_one_is_not_known_no_other_ends(alice: AccountClient) -> None:
    alice.tenant.add(alice.user)
    for session in (alice.session("elsewhere"), alice.session("s") | {"sid": None}):
        answer = alice.ask("DELETE", "", session)
        assert answer.json()["error"] == "current_session_unknown"
    assert len(alice.tenant.alive()) == 1


def test_ended_twice_it_is_the_same_end(alice: AccountClient) -> None:
    own, other = alice.tenant.add(alice.user), alice.tenant.add(alice.user)
    session = alice.session(own)
    alice.ask("DELETE", f"/{other}", session)
    alice.until_final(other, session)

    again = alice.ask("DELETE", f"/{other}", session)

    assert again.status_code == 200
    assert (again.json()["id"], again.json()["gone"]) == (other, True)


def test_not_yours_and_not_there_have_one_answer_and_nothing_is_written(
    alice: AccountClient,
) -> None:
    own, bobs = alice.tenant.add(alice.user), alice.tenant.add(BOB)
    session = alice.session(own)
    # The ends of other tests are written when they are confirmed.
    wait_for(lambda: not alice.redis.sunion(OPEN, OPEN_USERS), "none is followed", alice.receiver)
    before = alice.redis.xlen("bcl:v1:audit")

    answers = [
        alice.ask(method, path, session)
        for one in (bobs, "nothing", "%2e%2e", "a%2fb")
        for method, path in (("DELETE", f"/{one}"), ("GET", f"/{one}/state"))
    ]

    assert {(one.status_code, one.text) for one in answers} == {(404, answers[0].text)}
    assert bobs in alice.tenant.alive()
    assert alice.redis.xlen("bcl:v1:audit") == before


def test_the_end_of_another_users_session_is_not_shown(alice: AccountClient) -> None:
    own, bobs, bobs_other = (
        alice.tenant.add(alice.user),
        alice.tenant.add(BOB),
        alice.tenant.add(BOB),
    )
    assert alice.ask("DELETE", f"/{bobs}", alice.session(bobs_other, BOB)).status_code == 200

    for method, path in (
        ("GET", f"/{bobs}/state"), ("GET", f"/{bobs}/events"), ("DELETE", f"/{bobs}"),
    ):  # fmt: skip
        assert alice.ask(method, path, alice.session(own)).status_code == 404


@pytest.mark.parametrize("whose", ["session", "user"])
def test_an_ended_session_can_neither_list_nor_end(alice: AccountClient, whose: str) -> None:
    user = f"auth0|{secrets.token_hex(4)}"
    own, other = alice.tenant.add(user), alice.tenant.add(user)
    claims = {"sid": own if whose == "session" else ABSENT, "sub": user}
    assert alice.receiver.post(alice.keys.token(**claims)).status_code == 200

    for method, path in (
        ("GET", ""), ("DELETE", ""), ("DELETE", f"/{other}"), ("GET", f"/{other}/state"),
    ):  # fmt: skip
        answer = alice.ask(method, path, alice.session(own, user))
        assert (answer.status_code, answer.json()["error"]) == (401, "session_ended")
    assert other in alice.tenant.alive()


def test_a_later_login_of_the_same_session_id_lives(alice: AccountClient) -> None:
    user = f"auth0|{secrets.token_hex(4)}"
    own = alice.tenant.add(user)
    alice.receiver.post(alice.keys.token(sid=own, sub=user))
    assert alice.ids(alice.session(own, user, login_at=now() + 5)) == [own]


def test_a_code_from_before_the_logout_lets_nobody_in(alice: AccountClient) -> None:
    """What the app remembers of the user's sign-in reaches the receiver through the app's proxy."""
    user = f"auth0|{secrets.token_hex(4)}"
    own = alice.tenant.add(user)
    alice.receiver.post(alice.keys.token(sid=own, sub=user))
    proxy = AccountProxy(alice.url, SHOP_TOKEN)
    for auth_time, status in ((now() - 600, 401), (now() + 4, 200)):
        session = alice.session(own, user, login_at=now() + 5, auth_time=auth_time)
        assert proxy.answer("GET", "/sessions", session, {}).status == status


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://elsewhere.example/"}, {"sub": ABSENT}, {"login_at": "600"},
        {"iss": ABSENT}, {"sub": 5}, {"login_at": True},
    ],
)  # fmt: skip
def test_a_session_that_does_not_say_whose_it_is_is_refused(
    alice: AccountClient, changes: dict[str, object]
) -> None:
    assert alice.ask("GET", "", alice.session("s", **changes)).status_code == 400


@pytest.mark.parametrize("header", ["", "%%%", "W10", "bm8", "a" * 9000, "eyJhIjo"])
def test_a_header_that_is_none_is_refused(alice: AccountClient, header: str) -> None:
    answer = alice.ask("GET", "", None, **{"bcl-session": header})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "token", [None, "wrong" * 8, "the-admin-token-of-this-test", "a.b.c", SHOP_TOKEN[:-1]]
)
def test_who_has_no_credential_is_refused(alice: AccountClient, token: str | None) -> None:
    own = alice.tenant.add(alice.user)
    answer = alice.ask("GET", "", alice.session(own), token)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_each_app_speaks_for_its_own_sessions(alice: AccountClient) -> None:
    """The news lets nobody in whom the news has let go, whatever the shop says."""
    own = alice.tenant.add(alice.user)
    assert alice.ask("GET", "", alice.session(own), NEWS_TOKEN).status_code == 200


def test_a_broken_provider_is_said(alice: AccountClient) -> None:
    own = alice.tenant.add(alice.user)
    alice.tenant.faults.append(fault(500, "Internal", "broken"))
    answer = alice.ask("GET", "", alice.session(own))
    assert (answer.status_code, answer.json()["error"]) == (502, "provider_unavailable")


@pytest.mark.slow
def test_a_limited_provider_is_said_with_when_to_come_back(tmp_path: Path) -> None:
    """With a account of its own: nobody is asked for as long as the limit lasts."""
    with account_client(tmp_path) as account:
        account.user = "auth0|alice"
        own = account.tenant.add(account.user)
        account.tenant.faults.append(limited(30))
        answer = account.ask("GET", "", account.session(own))
    assert answer.json()["error"] == "provider_limits"
    assert int(answer.headers["retry-after"]) >= 1


def test_who_asks_too_often_is_told_to_wait_and_others_are_not(alice: AccountClient) -> None:
    user = f"auth0|{secrets.token_hex(4)}"
    sid = "nothing"
    answers = [alice.ask("DELETE", f"/{sid}", alice.session("own", user)) for _ in range(30)]
    refused = [one for one in answers if one.status_code == 429]
    assert refused
    assert int(refused[0].headers["retry-after"]) >= 1
    assert alice.ask("GET", "", alice.session("x", f"{user}2")).status_code == 200


def test_events_come_until_it_is_over(alice: AccountClient) -> None:
    own, other = alice.tenant.add(alice.user), alice.tenant.add(alice.user)
    session = alice.session(own)
    alice.ask("DELETE", f"/{other}", session)
    headers = alice.receiver.http.build_request("GET", alice.url).headers
    headers["authorization"] = f"Bearer {SHOP_TOKEN}"
    headers["bcl-session"] = said(session)
    states = []
    with (
        httpx.Client(timeout=20, trust_env=False) as client,
        client.stream(
            "GET", f"{alice.url}/account/sessions/{other}/events", headers=headers
        ) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                states.append(json.loads(line[6:]))
                if states[-1]["gone"] and states[-1]["apps"]["told"] == 2:
                    break
    assert states[-1]["id"] == other


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404), ("GET", "/readyz", 404), ("GET", "/metrics", 404), ("GET", "/api", 404),
        ("GET", "/account/", 404), ("POST", "/account", 405), ("GET", "/account/../api", 404),
        ("GET", "/account", 200), ("GET", "/account/active-sessions.js", 200),
        ("GET", "/account/page.css", 200), ("POST", "/backchannel-logout", 404),
    ],
)  # fmt: skip
def test_what_is_not_named_is_not_there(
    alice: AccountClient, method: str, path: str, status: int
) -> None:
    answer = alice.receiver.http.request(method, alice.url + path)
    assert answer.status_code == status
    if path == "/account" and status == 200:
        assert "script-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("query", ["?user=bob", "?page=2", "?except=x"])
def test_a_query_that_nobody_knows_is_refused(alice: AccountClient, query: str) -> None:
    own = alice.tenant.add(alice.user)
    assert alice.ask("DELETE", query, alice.session(own)).status_code == 400


def test_pages_of_configured_origins_may_ask_and_others_may_not(alice: AccountClient) -> None:
    def preflight(origin: str) -> httpx.Response:
        return alice.receiver.http.options(
            f"{alice.url}/account/sessions/x",
            headers={
                "origin": origin,
                "access-control-request-method": "DELETE",
                "access-control-request-headers": "authorization,x-requested-with",
            },
        )

    good = preflight(ORIGIN)
    assert good.status_code == 200
    assert good.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-credentials" not in good.headers
    assert "access-control-allow-origin" not in preflight("https://evil.example").headers


def test_one_that_begins_while_the_others_end_ends_too(
    alice: AccountClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = alice.tenant.add(alice.user), alice.tenant.add(alice.user)
    listed, late = alice.tenant._page, list[str]()

    def page(user: str, query: dict[str, str]) -> Response:
        sessions = listed(user, query)
        if not late:
            late.append(alice.tenant.add(user))
        return sessions

    monkeypatch.setattr(alice.tenant, "_page", page)
    answer = alice.ask("DELETE", "", alice.session(own)).json()
    assert [one["id"] for one in answer["sessions"]] == [other, *late]
    assert answer["more"] is False
    alice.until_final(late[0], alice.session(own))
    assert own in alice.tenant.alive()


def test_all_that_ended_with_one_request_are_asked_for_with_one(alice: AccountClient) -> None:
    own, *others = (alice.tenant.add(alice.user) for _ in range(4))
    session = alice.session(own)
    assert alice.ask("GET", "/state", session).json() == {"sessions": []}
    alice.ask("DELETE", "", session)

    def state() -> dict[str, dict[str, Any]]:
        return {one["id"]: one for one in alice.ask("GET", "/state", session).json()["sessions"]}

    wait_for(lambda: all(one["gone"] for one in state().values()), "gone", every=USER_PACE)
    assert set(state()) == set(others)
    elsewhere = alice.tenant.add(BOB)
    answer = alice.ask("GET", "/state", alice.session(elsewhere, BOB))
    assert not {one["id"] for one in answer.json()["sessions"]} & set(others)
    assert alice.ask("GET", "/state", None).status_code == 400
    # A session may be called so: it is ended by its name all the same.
    assert alice.ask("DELETE", "/state", session).status_code == 404
    named = alice.tenant.add(alice.user, "state")
    assert alice.ask("DELETE", f"/{named}", session).json()["id"] == named
