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
from tests.admin.api_fixture import ALICE, ApiScene, api_scene, users
from tests.support.providers.api_server import Response
from tests.support.providers.auth0_api import ALL_SCOPES, limited
from tests.support.providers.auth0_api import fault as auth0_fault
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow

BOB = "auth0|bob"


@pytest.fixture(autouse=True)
def _well(scene: ApiScene) -> Iterator[None]:
    yield
    scene.tenant.get_well()


def marker(scene: ApiScene, app: str, session: str) -> str | None:
    found: str | None = scene.redis.get(AppKeys(app).sid(scene.issuer, session))
    return found


def fault_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert body.keys() == {"error", "error_description"}
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, body["error"]


def test_a_users_sessions_are_listed_page_by_page(scene: ApiScene) -> None:
    own = {scene.tenant.add(ALICE) for _ in range(5)}
    scene.tenant.add(BOB)
    scene.tenant.page_limit = 2
    found, page = [], None
    while True:
        params = {} if page is None else {"page": page}
        answer = scene.get(users(ALICE), params=params)
        assert answer.status_code == 200
        found += answer.json()["sessions"]
        page = answer.json()["next"]
        if page is None:
            break
    scene.tenant.page_limit = 100
    assert {one["id"] for one in found} == own
    assert len(found) == 5
    assert found[0]["state"] == "active"
    assert found[0]["user"] == ALICE
    assert found[0]["first_device"]["ip"] == "192.0.2.1"


def test_nobody_has_sessions(scene: ApiScene) -> None:
    answer = scene.get(users("auth0|nobody"))
    assert (answer.status_code, answer.json()) == (200, {"sessions": [], "next": None})


def test_a_session_is_ended_and_followed_to_the_last_app(scene: ApiScene) -> None:
    session, neighbour = scene.tenant.add(ALICE), scene.tenant.add(ALICE)
    answer = scene.delete(f"/sessions/{session}?by=ada&reason=stolen")
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/sessions/{session}/state"
    assert answer.json()["state"] in ("begun", "asked", "gone")
    over = scene.over(session)
    assert over["state"] == "confirmed"  # and not proven: no app runs here
    assert [one["source"] for one in over["apps"]] == ["backchannel-logout"] * 2
    assert [one["proof"]["standing"] for one in over["apps"]] == ["nobody", "nobody"]
    assert over["explanation"] is None
    assert over["began_at"] <= over["asked_at"] <= over["gone_at"]
    assert marker(scene, "shop", session) is not None
    assert marker(scene, "shop", neighbour) is None
    assert neighbour in scene.tenant.alive()

    again = scene.delete(f"/sessions/{session}")
    assert (again.status_code, again.json()["state"]) == (200, "confirmed")


def test_an_app_that_asks_redis_has_proven_it(scene: ApiScene) -> None:
    session = scene.tenant.add(ALICE, clients=[{"client_id": "shop-web"}])
    readers = AppKeys("shop").readers
    scene.redis.hset(readers, "asks", f'{{"v": 1, "kind": "asks", "at": {time.time()}}}')
    try:
        assert scene.delete(f"/sessions/{session}").status_code == 202
        assert scene.over(session)["state"] == "proven"
    finally:
        scene.redis.delete(readers)


def test_without_a_token_the_apps_are_told_and_the_cause_is_explained(scene: ApiScene) -> None:
    scene.tenant.sends = False
    session = scene.tenant.add(ALICE)
    assert scene.delete(f"/sessions/{session}").status_code == 202
    over = scene.over(session)
    assert over["state"] == "confirmed"
    assert {one["source"] for one in over["apps"]} == {"auth0"}
    assert over["received_at"] is None
    assert "session-revoked initiator is off" in over["explanation"]
    read = scene.get(f"/sessions/{session}").json()
    assert read["session"] is None
    assert [app["state"] for app in read["apps"]] == ["revoked", "revoked"]
    assert read["ending"]["state"] == "confirmed"


def test_all_sessions_of_a_user_end_and_no_other_user_notices(scene: ApiScene) -> None:
    own = {scene.tenant.add(ALICE) for _ in range(3)}
    other = scene.tenant.add(BOB)
    answer = scene.delete(users(ALICE))
    assert answer.status_code == 202
    assert {one["session"] for one in answer.json()["endings"]} == own
    assert answer.json()["more"] is False
    assert {scene.over(session)["state"] for session in own} == {"confirmed"}
    assert scene.tenant.alive() == {other}
    assert marker(scene, "shop", other) is None


def test_all_end_with_the_providers_one_call_and_its_own_state_says_how_far_it_is(
    scene: ApiScene,
) -> None:
    own = {scene.tenant.add(ALICE) for _ in range(3)}
    before = len(scene.tenant.paths("DELETE"))
    answer = scene.delete(users(ALICE), params={"by": "ada, for this test"})
    where = users(ALICE).removeprefix("/") + "/state"
    assert answer.headers["location"] == f"/api/{where}"
    assert (answer.json()["of_user"]["session"], answer.json()["of_user"]["user"]) == (None, ALICE)
    wait_for(lambda: scene.get(f"/{where}").json()["over"], "all of it is over", scene.receiver)
    over = scene.get(f"/{where}").json()
    assert over["state"] == "confirmed"
    assert [one["source"] for one in over["apps"]] == ["auth0", "auth0"]
    for session in own:
        scene.over(session)
    assert scene.tenant.paths("DELETE")[before:] == [f"/api/v2{users(ALICE)}"]

    def said() -> int:
        acts = [(one["act"], one["who"]) for one in scene.audit()]
        return acts.count(("session.ended", "ada, for this test"))

    # Each is in the audit right after it is over.
    wait_for(lambda: said() >= 4, "all of it is in the audit", scene.receiver)
    assert said() == 4
    assert fault_of(scene.get("/users/auth0%7Cnobody/sessions/state")) == (404, "not_found")


def test_what_begins_while_the_others_are_ended_ends_too(
    scene: ApiScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all but one, which no provider has a call for."""
    mine, keep, late = scene.tenant.add(ALICE), scene.tenant.add(ALICE), list[str]()
    listed = scene.tenant._page

    def page(user: str, query: dict[str, str]) -> Response:
        found = listed(user, query)
        if not late:
            late.append(scene.tenant.add(ALICE))
        return found

    monkeypatch.setattr(scene.tenant, "_page", page)
    answer = scene.delete(users(ALICE), params={"except": keep}).json()
    assert [one["session"] for one in answer["endings"]] == [mine, *late]
    assert (answer["more"], answer["of_user"]) == (False, None)
    for session in (mine, *late):
        assert scene.over(session)["state"] == "confirmed"
    assert scene.tenant.alive() == {keep}


def test_where_somebody_signs_in_all_the_time_more_are_said_to_be_left(
    scene: ApiScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, listed = scene.tenant.add(ALICE), scene.tenant._page
    scene.tenant.add(ALICE)

    def page(user: str, query: dict[str, str]) -> Response:
        found = listed(user, query)
        scene.tenant.add(ALICE)
        return found

    monkeypatch.setattr(scene.tenant, "_page", page)
    assert scene.delete(users(ALICE), params={"except": keep}).json()["more"] is True
    assert keep in scene.tenant.alive()


def test_all_but_one_end(scene: ApiScene) -> None:
    own = {scene.tenant.add(ALICE) for _ in range(3)}
    keep = scene.tenant.add(ALICE)
    answer = scene.delete(users(ALICE), params={"except": keep})
    assert {one["session"] for one in answer.json()["endings"]} == own
    for session in own:
        scene.over(session)
    assert scene.tenant.alive() == {keep}


def test_an_end_that_comes_to_nothing_is_in_the_audit_too(scene: ApiScene) -> None:
    before = len(scene.audit())
    scene.tenant.add(ALICE)
    scene.delete("/sessions/guessed?by=eve")
    scene.delete(users(ALICE), params={"except": "guessed", "by": "eve"})
    scene.delete(users("auth0|nobody"), params={"by": "eve"})
    with scene.tenant.lock:
        scene.tenant.faults_for = {"guessed"}
        scene.tenant.faults.append(auth0_fault(403, "Forbidden", "Insufficient scope"))
    scene.delete("/sessions/guessed?by=eve")
    # Ends of the tests before may still be confirmed meanwhile.
    entries = [one for one in scene.audit()[before:] if one["who"] == "eve"]
    assert [(one["act"], one["who"], one["outcome"]) for one in entries] == [
        ("session.end", "eve", "not_found"),
        ("session.end", "eve", "unknown_session"),
        ("session.end", "eve", "nothing"),
        ("session.end", "eve", "provider_refuses"),
    ]
    assert all(one.keys() & {"sid_hash", "sub_hash"} for one in entries)


@pytest.mark.parametrize("name", ["except", "keep", "Except"])
def test_a_session_to_keep_that_is_unknown_or_misspelled_ends_nothing(
    scene: ApiScene, name: str
) -> None:
    session = scene.tenant.add(ALICE)
    answer = scene.delete(users(ALICE), params={name: "no-session-of-hers"})
    assert answer.status_code == (409 if name == "except" else 400)
    assert scene.tenant.alive() == {session}


def test_refresh_tokens_end_too_where_that_is_said(scene: ApiScene) -> None:
    one, two = scene.tenant.add(ALICE), scene.tenant.add(ALICE)
    scene.tenant.refresh_tokens = {one, two}
    assert scene.delete(f"/sessions/{one}?refresh_tokens=true").status_code == 202
    assert scene.delete(f"/sessions/{two}?refresh_tokens=false").status_code == 202
    scene.over(one)
    scene.over(two)
    assert scene.tenant.refresh_tokens == {two}
    assert fault_of(scene.delete(f"/sessions/{two}?refresh_tokens=yes"))[0] == 400


def test_two_admins_at_once_mean_the_same_end(scene: ApiScene) -> None:
    session = scene.tenant.add(ALICE)
    before = len(scene.tenant.paths("DELETE"))
    answers: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(
                httpx.delete(
                    f"{scene.base}/sessions/{session}",
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
    assert scene.over(session)["state"] == "confirmed"
    assert len(scene.tenant.paths("DELETE")) == before + 1


# -- guessed ids, and tricks in them ---------------------------------------------------------


def test_a_guessed_id_is_not_found_and_nothing_is_asked_to_end(scene: ApiScene) -> None:
    before = len(scene.tenant.paths("DELETE"))
    assert fault_of(scene.get("/sessions/guessed")) == (404, "not_found")
    assert fault_of(scene.delete("/sessions/guessed")) == (404, "not_found")
    assert fault_of(scene.get("/sessions/guessed/state")) == (404, "not_found")
    assert len(scene.tenant.paths("DELETE")) == before


@pytest.mark.parametrize(
    "trick",
    [
        "%2e%2e", "..%2f..%2fusers%2falice", "%2e", "a%2fb", "a%5cb", "a%252fb", "%252e%252e",
        "a%00b", "a%0d%0aHost:%20evil", "%ff%fe", "%20%20%0a", "x" * 256, "a%c2%85b",
    ],
)  # fmt: skip
def test_an_id_with_a_trick_never_leaves_here(scene: ApiScene, trick: str) -> None:
    before = len(scene.tenant.requests)
    for method, path in [
        ("GET", f"/sessions/{trick}"),
        ("DELETE", f"/sessions/{trick}"),
        ("GET", f"/sessions/{trick}/state"),
        ("GET", f"/users/{trick}/sessions"),
        ("DELETE", f"/users/{trick}/sessions"),
    ]:
        # As it is written: a client of the library would tidy it up.
        url = httpx.URL(scene.base + path)
        answer = raw(method, url)
        assert answer.startswith(b"HTTP/1.1 400 "), (method, path, answer[:200])
    assert len(scene.tenant.requests) == before


def raw(method: str, url: httpx.URL) -> bytes:
    """The answer to a request whose path is sent as it is."""
    path = str(url).split("://", 1)[1]
    host, _, rest = path.partition("/")
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        connection.sendall(
            f"{method} /{rest} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
            "Authorization: Bearer the-admin-token-of-this-test\r\n\r\n".encode()
        )
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
    return found


def test_a_users_id_with_a_bar_arrives_at_the_provider_as_it_is(scene: ApiScene) -> None:
    session = scene.tenant.add("auth0|5f@x:y z")
    answer = scene.get("/users/auth0%7C5f%40x%3Ay%20z/sessions")
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
    with api_scene(tmp_path) as own:  # what a limit closes stays closed for a while
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


def test_a_provider_that_does_not_answer_is_too_slow(scene: ApiScene) -> None:
    session = scene.tenant.add(ALICE)
    scene.tenant.faults_for = {session}
    scene.tenant.faults.append("hang")
    assert fault_of(scene.get(f"/sessions/{session}")) == (504, "provider_timeout")


def test_a_provider_that_shows_another_users_sessions_is_not_believed(scene: ApiScene) -> None:
    session = scene.tenant.add(BOB)
    lie = Response(200, {"sessions": [scene.tenant.sessions[session]]})
    scene.tenant.faults_for = {ALICE}
    scene.tenant.faults.extend([lie, lie])
    assert fault_of(scene.get(users(ALICE))) == (502, "provider_unexpected")
    assert fault_of(scene.delete(users(ALICE))) == (502, "provider_unexpected")
    assert scene.tenant.alive() == {session}


def test_credentials_that_may_not_delete_leave_the_ending_open_with_its_reason(
    scene: ApiScene,
) -> None:
    session = scene.tenant.add(ALICE)
    scene.tenant.scopes = {"read:sessions"}
    assert scene.delete(f"/sessions/{session}").status_code == 202
    deadline = time.monotonic() + 60
    while scene.state(session)["trouble"] is None:
        assert time.monotonic() < deadline
    found = scene.state(session)
    assert found["trouble"]["what"] == "forbidden"
    assert (found["state"], found["over"]) == ("begun", False)
    assert marker(scene, "shop", session) is None
    scene.tenant.scopes = set(ALL_SCOPES)
    assert scene.over(session)["state"] == "confirmed"
