"""Ory Kratos: its sessions by an app's backend, and by users with their own Kratos credential."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from app.account.request_limits import PEER_BURST, RequestLimits
from app.web.errors import ApiError
from tests.account.account_fixture import SHOP_TOKEN, USER_PACE, now, said
from tests.support.providers.api_server import Response
from tests.support.providers.kratos_api import KratosApi, stamp
from tests.support.receiver import Receiver, wait_for
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

ALICE = "aaaaaaaa-0000-4000-8000-000000000001"
BOB = "bbbbbbbb-0000-4000-8000-000000000002"
COOKIE = "ory_kratos_session"


@dataclass
class KratosAccount:
    """A receiver's users' listener, and the Kratos whose users call it."""

    kratos: KratosApi
    receiver: Receiver
    redis: Any
    url: str

    def request(self, method: str, path: str = "", **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.receiver.http.request(method, self.url + path, headers=sent)

    def by_backend(self, method: str, path: str, own: str) -> httpx.Response:
        session = {"iss": self.kratos.origin, "sub": ALICE, "sid": own, "login_at": now() - 600}
        return self.request(
            method, path, authorization=f"Bearer {SHOP_TOKEN}", bcl_session=said(session)
        )

    def by_token(self, method: str, path: str, own: str) -> httpx.Response:
        return self.request(method, path, x_session_token=f"token-{own}")

    def by_cookie(self, method: str, path: str, own: str, **headers: str) -> httpx.Response:
        cookie = f"theme=dark; {COOKIE}=token-{own}"
        return self.request(method, path, cookie=cookie, **headers)

    def wait_for_event(self, sid: str) -> None:
        def sids() -> list[str]:
            return [fields["sid"] for _, fields in self.redis.xrange("bcl:v1:{shop}:events")]

        wait_for(lambda: sid in sids(), "the app's event", self.receiver)


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KratosAccount]:
    tmp_path = tmp_path_factory.mktemp("kratos")
    redis = RedisServer(tmp_path / "redis").start()
    with KratosApi() as kratos:
        settings = f'''
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
account_listen = "127.0.0.1:0"
redis_url = "{redis.url}"
max_session_age = "1h"
account_apps = [{{app = "shop", token = "{SHOP_TOKEN}"}}]
[[issuers]]
issuer = "{kratos.origin}"
clients = [{{app = "shop"}}]
[issuers.sessions]
kind = "kratos"
admin_url = "{kratos.origin}"
public_url = "{kratos.origin}"
'''
        receiver = Receiver(tmp_path / "receiver", settings).start()
        address = re.search(r"users' own sessions:\s+(http://\S+)/account", receiver.log)
        assert address
        try:
            with redis.client() as client:
                yield KratosAccount(kratos, receiver, client, address[1] + "/account/sessions")
        finally:
            receiver.stop()
            redis.stop()


@pytest.fixture
def account(listener: KratosAccount) -> KratosAccount:
    listener.kratos.sessions.clear()
    listener.kratos.requests.clear()
    listener.kratos.second_factor = False
    return listener


def test_a_backend_lists_and_ends_sessions_and_the_apps_are_told(account: KratosAccount) -> None:
    kratos = account.kratos
    own, other, bobs = kratos.add(ALICE), kratos.add(ALICE), kratos.add(BOB)
    listed = account.by_backend("GET", "", own).json()
    assert {one["id"] for one in listed} == {own, other}
    assert listed[0]["current"]
    assert listed[0]["device"]["last_ip"] == "192.0.2.2"
    assert account.by_backend("DELETE", f"/{bobs}", own).status_code == 404
    assert account.by_backend("DELETE", f"/{other}", own).json()["id"] == other
    wait_for(
        lambda: account.by_backend("GET", f"/{other}/state", own).json().get("gone"),
        "gone", account.receiver, every=USER_PACE,
    )  # fmt: skip
    assert kratos.alive() == {own, bobs}
    account.wait_for_event(other)


@pytest.mark.parametrize("by", ["by_token", "by_cookie"])
def test_a_user_lists_their_own_sessions_the_current_one_marked(
    account: KratosAccount, by: str
) -> None:
    own, other = account.kratos.add(ALICE), account.kratos.add(ALICE)
    account.kratos.add(BOB)
    listed = getattr(account, by)("GET", "", own).json()
    assert [(one["id"], one["current"]) for one in listed] == [(own, True), (other, False)]


def test_a_user_ends_one_session_and_the_apps_are_told(account: KratosAccount) -> None:
    own, other, third = (account.kratos.add(ALICE) for _ in range(3))
    bobs = account.kratos.add(BOB)
    assert account.by_token("DELETE", f"/{bobs}", own).status_code == 404
    assert account.by_token("DELETE", f"/{other}", own).status_code == 200
    account.wait_for_event(other)
    assert account.kratos.alive() == {own, third, bobs}
    entry = account.redis.xrevrange("bcl:v1:audit", count=1)[0][1]
    assert entry["who"] == "account:kratos"


def test_a_user_ends_all_other_sessions_and_the_current_one_lives(account: KratosAccount) -> None:
    own, other, third = (account.kratos.add(ALICE) for _ in range(3))
    bobs = account.kratos.add(BOB)
    answer = account.by_cookie("DELETE", "", own, sec_fetch_site="same-origin").json()
    assert {one["id"] for one in answer["sessions"]} == {other, third}
    for sid in (other, third):
        account.wait_for_event(sid)
    assert account.kratos.alive() == {own, bobs}
    assert [one["id"] for one in account.by_cookie("GET", "", own).json()] == [own]


def test_an_ended_session_opens_nothing(account: KratosAccount) -> None:
    own, other = account.kratos.add(ALICE), account.kratos.add(ALICE)
    assert account.by_token("DELETE", f"/{own}", own).status_code == 200
    account.wait_for_event(own)
    answer = account.by_token("GET", "", own)
    assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
    assert account.by_token("GET", "", other).status_code == 200


def test_a_marker_ends_the_callers_session_although_kratos_has_it(account: KratosAccount) -> None:
    own, other = account.kratos.add(ALICE), account.kratos.add(ALICE)
    assert account.by_token("DELETE", f"/{own}", other).status_code == 200
    account.wait_for_event(own)
    account.kratos.sessions[own]["active"] = True
    answer = account.by_token("GET", "", own)
    assert (answer.status_code, answer.json()["error"]) == (401, "session_ended")


def test_a_session_older_than_the_apps_allow_is_still_shown_to_its_user(
    account: KratosAccount,
) -> None:
    own = account.kratos.add(ALICE, authenticated_at=stamp(now() - 7200.5))
    answer = account.by_token("GET", "", own)
    assert [one["id"] for one in answer.json()] == [own]
    assert account.by_backend("GET", "", own).status_code == 200


def test_kratos_wants_a_second_factor_first(account: KratosAccount) -> None:
    account.kratos.second_factor = True
    answer = account.by_token("GET", "", account.kratos.add(ALICE))
    assert (answer.status_code, answer.json()["error"]) == (403, "second_factor_required")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "x_requested_with": "active-sessions"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
def test_a_delete_with_a_cookie_comes_from_the_same_origin(
    account: KratosAccount, headers: dict[str, str]
) -> None:
    own, other = account.kratos.add(ALICE), account.kratos.add(ALICE)
    for path in ("", f"/{other}"):
        answer = account.by_cookie("DELETE", path, own, **headers)
        assert (answer.status_code, answer.json()["error"]) == (403, "foreign_origin")
    assert account.kratos.alive() == {own, other}
    assert account.kratos.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x_session_token": "token-of-nobody"},
        {"cookie": f"{COOKIE}=token-of-nobody"},
        {"cookie": "theme=dark"},
        {"authorization": "Bearer wrong", "x_session_token": "token-{own}"},
    ],
)
def test_a_request_without_a_session_of_kratos_is_refused(
    account: KratosAccount, headers: dict[str, str]
) -> None:
    own = account.kratos.add(ALICE)
    sent = {name: value.format(own=own) for name, value in headers.items()}
    answer = account.request("GET", "", **sent)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_kratos_gets_the_session_credential_alone_and_no_log_has_it(account: KratosAccount) -> None:
    own = account.kratos.add(ALICE)
    assert account.by_cookie("GET", "", own).status_code == 200
    whoami = next(one for one in account.kratos.requests if one.segments[-1] == "whoami")
    assert whoami.headers["cookie"] == f"{COOKIE}=token-{own}"
    assert "authorization" not in whoami.headers
    others = [one for one in account.kratos.requests if one is not whoami]
    assert others
    assert all("cookie" not in one.headers for one in others)
    assert f"token-{own}" not in account.receiver.log


def test_a_kratos_that_fails_is_no_answer_about_the_caller(account: KratosAccount) -> None:
    account.kratos.faults.append(Response(503, {"error": {"code": 503}}))
    answer = account.by_token("GET", "", account.kratos.add(ALICE))
    assert (answer.status_code, answer.json()["error"]) == (502, "provider_unavailable")


def test_credentials_that_kratos_does_not_know_are_limited_by_peer(account: KratosAccount) -> None:
    """They cost a call to Kratos, and anyone can send them. Other peers are not affected."""
    own = account.kratos.add(ALICE)
    with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.9")) as stranger:
        refused = 0
        while (
            answer := stranger.get(account.url, headers={"x-session-token": "junk"})
        ).status_code == 401:
            refused += 1
    assert (answer.status_code, answer.json()["error"]) == (429, "too_many_requests")
    assert int(answer.headers["retry-after"]) >= 1
    assert len(account.kratos.requests) == refused >= PEER_BURST
    assert account.by_token("GET", "", own).status_code == 200


def test_users_within_their_limits_do_not_use_up_that_of_their_peer() -> None:
    limits = RequestLimits()
    for _ in range(PEER_BURST + 1):
        limits.count_identification("192.0.2.1")
        limits.give_back_identification("192.0.2.1")


def identify_from_many_peers(limits: RequestLimits) -> None:
    for number in range(100_000):
        limits.count_identification(f"192.0.2.{number}")


def test_all_peers_together_are_limited() -> None:
    with pytest.raises(ApiError) as caught:
        identify_from_many_peers(RequestLimits())
    assert caught.value.status == 429


def test_a_429_of_kratos_is_for_its_request_alone(account: KratosAccount) -> None:
    own = account.kratos.add(ALICE)
    account.kratos.faults.append(Response(429, {}, {"Retry-After": "300"}))
    answer = account.request("GET", x_session_token="junk")
    assert (answer.status_code, answer.json()["error"]) == (503, "provider_limits")
    assert answer.headers["retry-after"] == "300"
    assert account.by_token("GET", "", own).status_code == 200
