"""The providers' sessions by the admin API, with a provider that can misbehave.

The neighbour survives: whatever is ended, another session of the user, or another user's, is not.
"""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from backchannel_logout import AppKeys
from tests.admin.api_fixture import ALICE, AdminClient, admin_client, users
from tests.support.providers.api_server import Response
from tests.support.providers.auth0_api import ALL_SCOPES, limited
from tests.support.providers.auth0_api import fault as auth0_fault
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow

BOB = "auth0|bob"


@pytest.fixture(autouse=True)
def _well(admin: AdminClient) -> Iterator[None]:
    yield
    admin.settle()


def marker(admin: AdminClient, app: str, session: str) -> str | None:
    marker: str | None = admin.redis.get(AppKeys(app).sid(admin.issuer, session))
    return marker


def fault_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert body.keys() == {"error", "error_description"}
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, body["error"]


def test_a_users_sessions_are_listed_page_by_page(admin: AdminClient) -> None:
    own = {admin.tenant.add(ALICE) for _ in range(5)}
    admin.tenant.add(BOB)
    admin.tenant.page_limit = 2
    sessions, page = [], None
    while True:
        params = {} if page is None else {"page": page}
        answer = admin.get(users(ALICE), params=params)
        assert answer.status_code == 200
        sessions += answer.json()["sessions"]
        page = answer.json()["next"]
        if page is None:
            break
    admin.tenant.page_limit = 100
    assert {session["id"] for session in sessions} == own
    assert len(sessions) == 5
    assert sessions[0]["state"] == "active"
    assert sessions[0]["user"] == ALICE
    assert sessions[0]["first_device"]["ip"] == "192.0.2.1"


def test_nobody_has_sessions(admin: AdminClient) -> None:
    answer = admin.get(users("auth0|nobody"))
    assert (answer.status_code, answer.json()) == (200, {"sessions": [], "next": None})


def test_a_session_is_ended_and_followed_to_the_last_app(admin: AdminClient) -> None:
    session, neighbour = admin.tenant.add(ALICE), admin.tenant.add(ALICE)
    answer = admin.delete(f"/sessions/{session}?by=ada&reason=stolen")
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/sessions/{session}/state"
    assert answer.json()["state"] in ("begun", "asked", "gone")
    over = admin.over(session)
    assert over["state"] == "confirmed"  # and not proven: no app runs here
    assert [one["source"] for one in over["apps"]] == ["backchannel-logout"] * 2
    assert [one["proof"]["standing"] for one in over["apps"]] == ["nobody", "nobody"]
    assert over["explanation"] is None
    assert over["began_at"] <= over["asked_at"] <= over["gone_at"]
    assert marker(admin, "shop", session) is not None
    assert marker(admin, "shop", neighbour) is None
    assert neighbour in admin.tenant.alive()

    again = admin.delete(f"/sessions/{session}")
    assert (again.status_code, again.json()["state"]) == (200, "confirmed")


def test_an_app_that_asks_redis_has_proven_it(admin: AdminClient) -> None:
    session = admin.tenant.add(ALICE, clients=[{"client_id": "shop-web"}])
    readers = AppKeys("shop").readers
    admin.redis.hset(readers, "asks", f'{{"v": 1, "kind": "asks", "at": {time.time()}}}')
    try:
        assert admin.delete(f"/sessions/{session}").status_code == 202
        assert admin.over(session)["state"] == "proven"
    finally:
        admin.redis.delete(readers)


def test_without_a_token_the_apps_are_told_and_the_cause_is_explained(admin: AdminClient) -> None:
    admin.tenant.sends = False
    session = admin.tenant.add(ALICE)
    assert admin.delete(f"/sessions/{session}").status_code == 202
    over = admin.over(session)
    assert over["state"] == "confirmed"
    assert {one["source"] for one in over["apps"]} == {"auth0"}
    assert over["received_at"] is None
    assert "session-revoked initiator is off" in over["explanation"]
    read = admin.get(f"/sessions/{session}").json()
    assert read["session"] is None
    assert [app["state"] for app in read["apps"]] == ["revoked", "revoked"]
    assert read["ending"]["state"] == "confirmed"


def test_all_sessions_of_a_user_end_and_no_other_user_notices(admin: AdminClient) -> None:
    own = {admin.tenant.add(ALICE) for _ in range(3)}
    other = admin.tenant.add(BOB)
    answer = admin.delete(users(ALICE))
    assert answer.status_code == 202
    assert {one["session"] for one in answer.json()["endings"]} == own
    assert answer.json()["more"] is False
    assert {admin.over(session)["state"] for session in own} == {"confirmed"}
    assert admin.tenant.alive() == {other}
    assert marker(admin, "shop", other) is None


def test_all_end_with_the_providers_one_call_and_its_own_state_says_how_far_it_is(
    admin: AdminClient,
) -> None:
    own = {admin.tenant.add(ALICE) for _ in range(3)}
    before = len(admin.tenant.paths("DELETE"))
    answer = admin.delete(users(ALICE), params={"by": "ada, for this test"})
    where = users(ALICE).removeprefix("/") + "/state"
    assert answer.headers["location"] == f"/api/{where}"
    assert (answer.json()["of_user"]["session"], answer.json()["of_user"]["user"]) == (None, ALICE)
    wait_for(lambda: admin.get(f"/{where}").json()["over"], "all of it is over", admin.receiver)
    over = admin.get(f"/{where}").json()
    assert over["state"] == "confirmed"
    assert [one["source"] for one in over["apps"]] == ["auth0", "auth0"]
    for session in own:
        admin.over(session)
    assert admin.tenant.paths("DELETE")[before:] == [f"/api/v2{users(ALICE)}"]

    def said() -> int:
        acts = [(one["act"], one["who"]) for one in admin.audit()]
        return acts.count(("session.ended", "ada, for this test"))

    # Each is in the audit right after it is over.
    wait_for(lambda: said() >= 4, "all of it is in the audit", admin.receiver)
    assert said() == 4
    assert fault_of(admin.get("/users/auth0%7Cnobody/sessions/state")) == (404, "not_found")


def test_what_begins_while_the_others_are_ended_ends_too(
    admin: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all but one, which no provider has a call for."""
    mine, keep, late = admin.tenant.add(ALICE), admin.tenant.add(ALICE), list[str]()
    listed = admin.tenant._page

    def page(user: str, query: dict[str, str]) -> Response:
        sessions = listed(user, query)
        if not late:
            late.append(admin.tenant.add(ALICE))
        return sessions

    monkeypatch.setattr(admin.tenant, "_page", page)
    answer = admin.delete(users(ALICE), params={"except": keep}).json()
    assert [one["session"] for one in answer["endings"]] == [mine, *late]
    assert (answer["more"], answer["of_user"]) == (False, None)
    for session in (mine, *late):
        assert admin.over(session)["state"] == "confirmed"
    assert admin.tenant.alive() == {keep}


def test_where_somebody_signs_in_all_the_time_more_are_said_to_be_left(
    admin: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, listed = admin.tenant.add(ALICE), admin.tenant._page
    admin.tenant.add(ALICE)

    def page(user: str, query: dict[str, str]) -> Response:
        sessions = listed(user, query)
        admin.tenant.add(ALICE)
        return sessions

    monkeypatch.setattr(admin.tenant, "_page", page)
    assert admin.delete(users(ALICE), params={"except": keep}).json()["more"] is True
    assert keep in admin.tenant.alive()


def test_all_but_one_end(admin: AdminClient) -> None:
    own = {admin.tenant.add(ALICE) for _ in range(3)}
    keep = admin.tenant.add(ALICE)
    answer = admin.delete(users(ALICE), params={"except": keep})
    assert {one["session"] for one in answer.json()["endings"]} == own
    for session in own:
        admin.over(session)
    assert admin.tenant.alive() == {keep}


def test_an_end_that_comes_to_nothing_is_in_the_audit_too(admin: AdminClient) -> None:
    before = len(admin.audit())
    admin.tenant.add(ALICE)
    admin.delete("/sessions/guessed?by=eve")
    admin.delete(users(ALICE), params={"except": "guessed", "by": "eve"})
    admin.delete(users("auth0|nobody"), params={"by": "eve"})
    with admin.tenant.lock:
        admin.tenant.faults_for = {"guessed"}
        admin.tenant.faults.append(auth0_fault(403, "Forbidden", "Insufficient scope"))
    admin.delete("/sessions/guessed?by=eve")
    # Ends of the tests before may still be confirmed meanwhile.
    entries = [one for one in admin.audit()[before:] if one["who"] == "eve"]
    assert [(one["act"], one["who"], one["outcome"]) for one in entries] == [
        ("session.end", "eve", "not_found"),
        ("session.end", "eve", "unknown_session"),
        ("session.end", "eve", "nothing"),
        ("session.end", "eve", "provider_refuses"),
    ]
    assert all(one.keys() & {"sid_hash", "sub_hash"} for one in entries)


@pytest.mark.parametrize("name", ["except", "keep", "Except"])
def test_a_session_to_keep_that_is_unknown_or_misspelled_ends_nothing(
    admin: AdminClient, name: str
) -> None:
    session = admin.tenant.add(ALICE)
    answer = admin.delete(users(ALICE), params={name: "no-session-of-hers"})
    assert answer.status_code == (409 if name == "except" else 400)
    assert admin.tenant.alive() == {session}


def test_refresh_tokens_end_too_where_that_is_said(admin: AdminClient) -> None:
    one, two = admin.tenant.add(ALICE), admin.tenant.add(ALICE)
    admin.tenant.refresh_tokens = {one, two}
    assert admin.delete(f"/sessions/{one}?refresh_tokens=true").status_code == 202
    assert admin.delete(f"/sessions/{two}?refresh_tokens=false").status_code == 202
    admin.over(one)
    admin.over(two)
    assert admin.tenant.refresh_tokens == {two}
    assert fault_of(admin.delete(f"/sessions/{two}?refresh_tokens=yes"))[0] == 400


def test_two_admins_at_once_mean_the_same_end(admin: AdminClient) -> None:
    session = admin.tenant.add(ALICE)
    before = len(admin.tenant.paths("DELETE"))
    answers: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(
                httpx.delete(
                    f"{admin.base}/sessions/{session}",
                    headers={"authorization": "Bearer the-admin-token-of-this-test"},
                    trust_env=False,
                    timeout=20,
                )
            )
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.json()["began_at"] for answer in answers}) == 1
    assert admin.over(session)["state"] == "confirmed"
    assert len(admin.tenant.paths("DELETE")) == before + 1


# -- guessed ids, and tricks in them ---------------------------------------------------------


def test_a_guessed_id_is_not_found_and_nothing_is_asked_to_end(admin: AdminClient) -> None:
    before = len(admin.tenant.paths("DELETE"))
    assert fault_of(admin.get("/sessions/guessed")) == (404, "not_found")
    assert fault_of(admin.delete("/sessions/guessed")) == (404, "not_found")
    assert fault_of(admin.get("/sessions/guessed/state")) == (404, "not_found")
    assert len(admin.tenant.paths("DELETE")) == before


@pytest.mark.parametrize(
    "trick",
    [
        "%2e%2e", "..%2f..%2fusers%2falice", "%2e", "a%2fb", "a%5cb", "a%252fb", "%252e%252e",
        "a%00b", "a%0d%0aHost:%20evil", "%ff%fe", "%20%20%0a", "x" * 256, "a%c2%85b",
    ],
)  # fmt: skip
def test_an_id_with_a_trick_never_leaves_here(admin: AdminClient, trick: str) -> None:
    before = len(admin.tenant.requests)
    for method, path in [
        ("GET", f"/sessions/{trick}"),
        ("DELETE", f"/sessions/{trick}"),
        ("GET", f"/sessions/{trick}/state"),
        ("GET", f"/users/{trick}/sessions"),
        ("DELETE", f"/users/{trick}/sessions"),
    ]:
        # As it is written: a client of the library would tidy it up.
        url = httpx.URL(admin.base + path)
        answer = raw(method, url)
        assert answer.startswith(b"HTTP/1.1 400 "), (method, path, answer[:200])
    assert len(admin.tenant.requests) == before


def raw(method: str, url: httpx.URL) -> bytes:
    """The answer to a request whose path is sent as it is."""
    path = str(url).split("://", 1)[1]
    host, _, rest = path.partition("/")
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        connection.sendall(
            f"{method} /{rest} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            "Authorization: Bearer the-admin-token-of-this-test\r\n\r\n".encode()
        )
        text = b""
        while chunk := connection.recv(65536):
            text += chunk
    return text


def test_a_users_id_with_a_bar_arrives_at_the_provider_as_it_is(admin: AdminClient) -> None:
    session = admin.tenant.add("auth0|5f@x:y z")
    answer = admin.get("/users/auth0%7C5f%40x%3Ay%20z/sessions")
    assert [one["id"] for one in answer.json()["sessions"]] == [session]


# -- a provider that is down, slow, limiting, lying ------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (auth0_fault(500, "Internal Server Error", "secret of theirs"), 502,
         "provider_unavailable"),
        (auth0_fault(403, "Forbidden", "Insufficient scope"), 502, "provider_refuses"),
        ("limit", 503, "provider_limits"),
        ("cut", 502, "provider_unavailable"),
        (Response(200, b"<html>"), 502, "provider_unexpected"),
        (Response(302, None, {"Location": "http://127.0.0.1:1/"}), 502, "provider_unexpected"),
        (Response(404, b"<html>a proxy's own"), 502, "provider_unexpected"),
    ],
    ids=["500", "403", "429", "cut", "rubbish", "redirect", "404 of a proxy"],
)  # fmt: skip
def test_a_fault_of_the_provider_is_said_and_nothing_is_ended(
    tmp_path: Any, fault: Response | str, status: int, code: str
) -> None:
    with admin_client(tmp_path) as own:  # what a limit closes stays closed for a while
        session = own.tenant.add(ALICE)
        own.tenant.faults.extend([limited(120) if fault == "limit" else fault] * 10)
        answer = own.delete(f"/sessions/{session}")
        assert fault_of(answer) == (status, code)
        assert "secret of theirs" not in answer.text
        if status == 503:
            assert 100 <= int(answer.headers["retry-after"]) <= 121
        own.tenant.faults.clear()
        assert own.tenant.alive() == {session}
        assert fault_of(own.get(f"/sessions/{session}/state")) == (404, "not_found")


def test_a_provider_that_does_not_answer_is_too_slow(admin: AdminClient) -> None:
    session = admin.tenant.add(ALICE)
    admin.tenant.faults_for = {session}
    admin.tenant.faults.append("hang")
    assert fault_of(admin.get(f"/sessions/{session}")) == (504, "provider_timeout")


def test_a_provider_that_shows_another_users_sessions_is_not_believed(admin: AdminClient) -> None:
    session = admin.tenant.add(BOB)
    lie = Response(200, {"sessions": [admin.tenant.sessions[session]]})
    admin.tenant.faults_for = {ALICE}
    admin.tenant.faults.extend([lie, lie])
    assert fault_of(admin.get(users(ALICE))) == (502, "provider_unexpected")
    assert fault_of(admin.delete(users(ALICE))) == (502, "provider_unexpected")
    assert admin.tenant.alive() == {session}


def test_credentials_that_may_not_delete_leave_the_ending_open_with_its_reason(
    admin: AdminClient,
) -> None:
    session = admin.tenant.add(ALICE)
    admin.tenant.scopes = {"read:sessions"}
    assert admin.delete(f"/sessions/{session}").status_code == 202
    progress = admin.state_with(session, "trouble")
    assert progress["trouble"]["what"] == "forbidden"
    assert (progress["state"], progress["over"]) == ("begun", False)
    assert marker(admin, "shop", session) is None
    admin.tenant.scopes = set(ALL_SCOPES)
    assert admin.over(session)["state"] == "confirmed"
