"""The admin API: authentication, revocations, overviews, and malformed requests."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from backchannel_logout import AppKeys
from tests.admin.api_fixture import TOKEN, AdminClient, admin_client, users
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow


def code_of(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert {"error", "error_description"} <= body.keys()
    return answer.status_code, body["error"]


# -- the gate --------------------------------------------------------------------------------


def test_without_an_admin_token_there_is_no_api(redis_server: RedisServer, tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, config(redis_server.url, 'issuer = "http://127.0.0.1:1/op"'))
    receiver.start(ready=False)
    answer = receiver.http.get(
        receiver.admin_url + "/api/apps", headers={"authorization": f"Bearer {TOKEN}"}
    )
    assert (answer.status_code, answer.json()) == (404, {"error": "not_found"})
    receiver.stop()


def test_a_token_is_made_and_printed_where_that_is_asked_for(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = config(
        redis_server.url, 'issuer = "http://127.0.0.1:1/op"', top='admin_token = "generate"'
    )
    receiver = Receiver(tmp_path, settings).start(ready=False)
    (line,) = [one for one in receiver.log.splitlines() if "admin token" in one]
    token = line.rpartition(" ")[2]
    answer = receiver.http.get(
        receiver.admin_url + "/api/apps", headers={"authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 200
    assert answer.json()["apps"][0]["app"] == "shop"
    refused = receiver.http.get(
        receiver.admin_url + "/api/apps", headers={"authorization": "Bearer generate"}
    )
    assert refused.status_code == 401
    receiver.stop()


def test_the_public_listener_knows_nothing_of_it(admin: AdminClient) -> None:
    answer = admin.receiver.http.get(
        admin.receiver.url + "/api/apps", headers={"authorization": f"Bearer {TOKEN}"}
    )
    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["/apps", "/sessions/x", "/nothing", "/openapi.json", "/feed"])
def test_every_path_wants_the_token_also_one_that_is_not_there(
    admin: AdminClient, path: str
) -> None:
    assert code_of(admin.get(path, token=None)) == (401, "unauthorized")
    assert code_of(admin.get(path, token="wrong-token")) == (401, "unauthorized")
    admin.get("/apps")  # forgives


def test_a_foreign_host_and_a_foreign_page_are_refused(admin: AdminClient) -> None:
    evil = {"host": "evil.example"}
    assert code_of(admin.get("/apps", headers=evil)) == (403, "host_not_allowed")
    page = {"origin": "http://evil.example"}
    assert code_of(admin.get("/apps", headers=page)) == (403, "foreign_origin")
    probes = {"evil.example": 403, "10.1.2.3:9000": 200}  # they come by the pod's address
    for host, status in probes.items():
        url = admin.receiver.admin_url + "/readyz"
        assert admin.receiver.http.get(url, headers={"host": host}).status_code == status


def test_guessing_the_token_is_slowed_down(tmp_path: Path) -> None:
    with admin_client(tmp_path) as own:
        codes = [own.get("/apps", token=f"guess-{n}").status_code for n in range(11)]
        assert codes == [401] * 10 + [429]
        answer = own.get("/apps")
        assert code_of(answer) == (429, "too_many_failures")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert TOKEN not in own.receiver.log
        assert "guess-" not in own.receiver.log


def test_no_answer_may_be_kept(admin: AdminClient) -> None:
    for answer in (admin.get("/apps"), admin.get("/nothing"), admin.get("/apps", token=None)):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"


# -- broken requests -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/apps", 405),
        ("PUT", "/sessions/x", 405),
        ("HEAD", "/feed", 405),
        ("TRACE", "/apps", 405),
        ("GET", "/apps/", 404),
        ("GET", "/users//sessions", 404),
        ("GET", "/sessions/x/y", 404),
        ("GET", "/apps?x=1", 400),
        ("GET", "/revocations?sid=a&sid=b", 400),
        ("GET", "/revocations?sid=", 400),
        ("GET", "/revocations?sid=a&login_at=soon", 400),
        ("GET", "/revocations?sid=a&app=nobodys", 404),
        ("GET", "/revocations?sid=a&issuer=https://nobody.example", 404),
        ("GET", "/sessions/x?issuer=https://nobody.example", 404),
        ("GET", "/feed?app=nobodys", 404),
    ],
)
def test_what_can_not_be_answered_says_so(
    admin: AdminClient, method: str, path: str, status: int
) -> None:
    answer = admin.ask(method, path)
    assert answer.status_code == status
    if method != "HEAD":
        assert {"error", "error_description"} == answer.json().keys()
    if status == 405:
        assert answer.headers["allow"]


GOOD = {"sid": "s", "reason": "a test"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"sid": "s"}, 422),
        ({"sid": "s", "reason": ""}, 422),
        ({"sid": "s", "reason": "  "}, 422),
        ({"reason": "a test"}, 422),
        (GOOD | {"sid": 5}, 422),
        (GOOD | {"sid": ""}, 422),
        (GOOD | {"sid": "x" * 256}, 422),
        (GOOD | {"all": True, "app": "shop"}, 422),
        ({"all": True, "reason": "a test"}, 422),
        (GOOD | {"user": "alice"}, 422),
        (GOOD | {"app": "nobodys"}, 404),
        (GOOD | {"issuer": "https://nobody.example"}, 404),
        ([], 422),
        (None, 422),
    ],
    ids=repr,
)
def test_a_revocation_that_makes_no_sense_is_not_written(
    admin: AdminClient, body: Any, status: int
) -> None:
    before = admin.redis.xlen(AppKeys("shop").events)
    as_json = {"content-type": "application/json"}
    answer = admin.ask("POST", "/revocations", content=json.dumps(body), headers=as_json)
    assert answer.status_code == status
    assert {"error", "error_description"} == answer.json().keys()
    assert admin.redis.xlen(AppKeys("shop").events) == before


def test_a_body_is_json_small_and_well_formed(admin: AdminClient) -> None:
    form = admin.ask("POST", "/revocations", data={"sid": "s", "reason": "x"})
    assert code_of(form) == (415, "unsupported_media_type")
    as_json = {"content-type": "application/json"}
    broken = admin.ask("POST", "/revocations", content=b'{"sid"', headers=as_json)
    assert code_of(broken) == (400, "invalid_request")
    large = admin.ask("POST", "/revocations", content=b" " * 100_000, headers=as_json)
    assert code_of(large) == (413, "too_large")
    nothing = admin.ask("POST", "/revocations", headers=as_json)
    assert code_of(nothing) == (400, "invalid_request")
    binary = admin.ask("POST", "/revocations", content=b"\xff\xfe", headers=as_json)
    assert code_of(binary) == (400, "invalid_request")
    twice = b'{"sid": "a", "reason": "x", "sid": "b"}'
    answer = admin.ask("POST", "/revocations", content=twice, headers=as_json)
    assert code_of(answer) == (400, "invalid_request")
    assert "each member said once" in answer.json()["error_description"]


@pytest.mark.parametrize("member", ["sid", "sub", "app", "issuer", "reason", "by"])
def test_half_a_character_is_refused_at_the_door(admin: AdminClient, member: str) -> None:
    """A lone surrogate: no key in Redis and no line of the log can hold it."""
    as_json = {"content-type": "application/json"}
    body = json.dumps({"sid": "s", "reason": "a test", member: "\ud800"})
    answer = admin.ask("POST", "/revocations", content=body, headers=as_json)
    assert code_of(answer) == (400, "invalid_request")
    for path in ("/sessions/%ED%A0%80", "/users/%ED%A0%80/sessions"):
        assert code_of(admin.get(path)) == (400, "invalid_request")
        assert code_of(admin.delete(path)) == (400, "invalid_request")
    for name in ("sid", "sub", "issuer"):
        assert admin.get(f"/revocations?{name}=%ED%A0%80").status_code in (200, 400, 404)
    assert "internal" not in admin.receiver.log


# -- revocations -----------------------------------------------------------------------------


def test_a_session_is_ended_in_every_app_and_its_history_tells_by_whom(admin: AdminClient) -> None:
    before = int(time.time())
    answer = admin.post("/revocations", {"sid": "by-hand", "sub": "alice", "reason": "a test"})
    assert answer.status_code == 201
    written = answer.json()
    assert [one["written"] for one in written["apps"]] == ["accepted", "accepted"]
    assert before <= written["cutoff"] <= time.time()
    for app in ("shop", "news"):
        marker = admin.redis.get(AppKeys(app).sid(admin.issuer, "by-hand"))
        assert marker == str(written["cutoff"])
    history = admin.get("/revocations", params={"sid": "by-hand"}).json()
    assert [app["state"] for app in history["apps"]] == ["revoked", "revoked"]
    cause = history["apps"][0]["cause"]["event"]
    assert (cause["source"], cause["jti"]) == ("admin", written["act"])
    neighbour = admin.get("/revocations", params={"sid": "neighbour"}).json()
    assert {app["state"] for app in neighbour["apps"]} == {"alive"}


def test_a_user_is_ended_in_one_app_alone(admin: AdminClient) -> None:
    body = {"sub": "carol", "app": "shop", "reason": "a test", "issuer": admin.issuer}
    assert admin.post("/revocations", body).status_code == 201
    history = admin.get("/revocations", params={"sub": "carol"}).json()
    assert {app["app"]: app["state"] for app in history["apps"]} == {
        "shop": "revoked", "news": "alive",
    }  # fmt: skip
    later = {"sub": "carol", "login_at": str(int(time.time()) + 5), "app": "shop"}
    (app,) = admin.get("/revocations", params=later).json()["apps"]
    assert app["state"] == "alive"


def test_everybody_of_an_issuer_is_ended_in_one_app(tmp_path: Path) -> None:
    with admin_client(tmp_path) as own:
        body = {"all": True, "app": "news", "reason": "the key was stolen", "by": "ada"}
        assert own.post("/revocations", body).json()["kind"] == "all"
        history = own.get("/revocations", params={"sub": "whoever"}).json()
        assert {app["app"]: app["state"] for app in history["apps"]} == {
            "shop": "alive", "news": "revoked",
        }  # fmt: skip


def test_a_logout_token_shows_in_the_history_with_the_apps_proof(admin: AdminClient) -> None:
    assert admin.receiver.post(admin.keys.token(sid="told", aud="shop-web")).status_code == 200
    history = admin.get("/revocations", params={"sid": "told", "app": "shop"}).json()
    (app,) = history["apps"]
    assert app["cause"]["event"]["source"] == "backchannel-logout"
    assert app["cause"]["proof"]["standing"] in ("nobody", "asks")


# -- overviews -------------------------------------------------------------------------------


def test_issuers_and_apps_are_listed_without_a_secret(admin: AdminClient) -> None:
    issuers = admin.get("/issuers")
    (issuer,) = issuers.json()["issuers"]
    assert issuer["issuer"] == admin.issuer
    assert issuer["sessions"] == {"kind": "auth0", "sends_logout_tokens": True}
    assert issuer["keys"]["keys"] == 1
    assert "secret" not in issuers.text
    assert {app["app"] for app in admin.get("/apps").json()["apps"]} == {"shop", "news"}


# -- the audit -------------------------------------------------------------------------------


def test_every_act_and_every_look_is_in_the_audit_with_nobodys_id(tmp_path: Path) -> None:
    with admin_client(tmp_path) as own:
        session = own.tenant.add("auth0|dora")
        own.tenant.lag = 3600  # so that the first look at the end comes before it is over
        own.get(users("auth0|dora"))
        own.get(f"/sessions/{session}")
        own.delete(f"/sessions/{session}?by=ada&reason=stolen")
        own.state(session)
        own.tenant.carry_out_all()
        own.over(session)
        # It is in the audit right after it is over.
        wait_for(
            lambda: own.audit()[-1]["act"] == "session.ended", "its end is in the audit",
            own.receiver,
        )  # fmt: skip
        own.post("/revocations", {"sub": "auth0|dora", "reason": "to be sure", "by": "ada"})
        own.get("/revocations", params={"sub": "auth0|dora"})
        entries = own.audit()
        assert [one["act"] for one in entries] == [
            "sessions.list", "session.read", "session.end", "session.state", "session.ended",
            "revocation.write", "revocation.read",
        ]  # fmt: skip
        assert [one["who"] for one in entries] == [
            "admin-api", "admin-api", "ada", "admin-api", "ada", "ada", "admin-api",
        ], "who watches the end asks often, and is noted once"  # fmt: skip
        assert entries[2]["why"] == "stolen"
        assert entries[4]["outcome"] == "confirmed"
        assert entries[5]["outcome"] == "done"
        assert {one["sub_hash"] for one in entries if "sub_hash" in one} == {entries[0]["sub_hash"]}
        assert all(one["peer"] == "127.0.0.1" for one in entries if one["act"] != "session.ended")
        everything = json.dumps(entries) + own.receiver.log
        assert "dora" not in everything
        assert session not in everything


def test_while_redis_is_away_a_look_is_refused_and_an_act_goes_into_the_journal(
    tmp_path: Path,
) -> None:
    with admin_client(tmp_path) as own:
        session = own.tenant.add("auth0|dora")
        own.redis.shutdown(nosave=True)
        look = own.get(f"/sessions/{session}")
        assert code_of(look) == (503, "audit_unavailable")
        assert look.headers["retry-after"]
        assert code_of(own.delete(f"/sessions/{session}"))[0] == 503
        assert own.tenant.alive() == {session}
        written = own.post("/revocations", {"sid": session, "reason": "a test"})
        assert written.status_code == 201
        assert {one["written"] for one in written.json()["apps"]} == {"journaled"}
        wait_for(lambda: "revocation.write" in own.receiver.log, "the act is in the log")


def test_a_connection_that_sends_half_a_request_gets_no_answer_for_ever(admin: AdminClient) -> None:
    """The listener's own limits hold for the API, too."""
    host, port = admin.receiver.admin_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        connection.sendall(
            b"POST /api/revocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
            + f"Authorization: Bearer {TOKEN}\r\n".encode()
            + b"Content-Type: application/json\r\n\r\n{"
        )
        assert connection.recv(1000) == b""
