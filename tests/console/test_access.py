"""The console over plain HTTP: authentication and the headers of every answer."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from app.console.sign_in.operator_sessions import OperatorSessions
from tests.admin.api_fixture import TOKEN, AdminClient
from tests.support.receiver import Receiver, config
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

PAGE = {"accept": "text/html"}


def ask(admin: AdminClient, method: str, path: str, **options: object) -> httpx.Response:
    address = admin.receiver.admin_url + path
    return admin.receiver.http.request(method, address, **options)  # type: ignore[arg-type]


def signed_in(admin: AdminClient) -> dict[str, str]:
    """The header with the cookie of a new session."""
    answer = ask(admin, "POST", "/console/sign-in", data={"token": TOKEN})
    return {"cookie": answer.headers["set-cookie"].partition(";")[0]}


def csrf_of(admin: AdminClient, cookie: dict[str, str]) -> str:
    text = ask(admin, "GET", "/console/search", headers=cookie).text
    return re.findall(r'name="csrf" value="([^"]+)"', text)[0]


def test_without_a_way_to_sign_in_there_is_no_console(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    receiver = Receiver(tmp_path, config(redis_server.url, 'issuer = "http://127.0.0.1:1/op"'))
    receiver.start(ready=False)
    for path in ("/console", "/console/sign-in", "/console/static/console.css"):
        assert receiver.http.get(receiver.admin_url + path).status_code == 404
    receiver.stop()


def test_who_has_not_signed_in_sees_the_sign_in_and_nothing_else(admin: AdminClient) -> None:
    for path, back in (
        ("", ""),
        ("/story?sid=x%26y", "?next=%2Fconsole%2Fstory%3Fsid%3Dx%2526y"),
        ("/health", "?next=%2Fconsole%2Fhealth"),
        ("/nothing", "?next=%2Fconsole%2Fnothing"),
    ):
        answer = ask(admin, "GET", "/console" + path, headers=PAGE)
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in" + back)
        assert ask(admin, "GET", "/console" + path).status_code == 401
    assert ask(admin, "POST", "/console/sessions/end", data={}).status_code == 401
    stale = {"cookie": "__Host-bcl_console=guessed"}
    assert ask(admin, "GET", "/console", headers=stale).status_code == 401


def test_the_token_opens_a_session_whose_cookie_is_strict(admin: AdminClient) -> None:
    answer = ask(admin, "POST", "/console/sign-in", data={"token": TOKEN})
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-bcl_console=")
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    wrong = ask(admin, "POST", "/console/sign-in", data={"token": "wrong"})
    assert wrong.status_code == 401
    assert "set-cookie" not in wrong.headers
    assert "wrong" not in wrong.text.replace("wrong tokens", "")
    signed_in(admin)  # forgives


def test_the_sign_in_leads_to_the_page_that_was_asked_for_and_never_elsewhere(
    admin: AdminClient,
) -> None:
    page = "/console/story?sid=x%26y"
    shown = ask(admin, "GET", "/console/sign-in", params={"next": page}, headers=PAGE).text
    assert f'name="next" value="{page}"' in shown
    wrong = ask(admin, "POST", "/console/sign-in", data={"token": "wrong", "next": page})
    assert f'name="next" value="{page}"' in wrong.text, "also after a mistake"
    answer = ask(admin, "POST", "/console/sign-in", data={"token": TOKEN, "next": page})
    assert f'content="0;url={page}"' in answer.text
    cookie = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
    again = ask(admin, "GET", "/console/sign-in", params={"next": page}, headers=cookie)
    assert (again.status_code, again.headers["location"]) == (303, page)
    for evil in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:1"):
        answer = ask(admin, "POST", "/console/sign-in", data={"token": TOKEN, "next": evil})
        assert 'content="0;url=/console"' in answer.text
        again = ask(admin, "GET", "/console/sign-in", params={"next": evil}, headers=cookie)
        assert again.headers["location"] == "/console"


def test_a_wrong_token_is_in_the_audit_without_a_word_of_it(admin: AdminClient) -> None:
    ask(admin, "POST", "/console/sign-in", data={"token": "a-wrong-token"})
    entry = admin.audit()[-1]
    assert (entry["act"], entry["outcome"], entry["why"]) == ("console.sign_in", "refused", "token")
    assert (entry["who"], entry["peer"]) == ("-", "127.0.0.1")
    assert "a-wrong-token" not in str(admin.audit())
    signed_in(admin)  # forgives


def test_a_name_that_somebody_gives_looks_like_no_proven_one(admin: AdminClient) -> None:
    for name in ("admin_token", " Admin-API", "oidc:42 (Ada)", "account:shop", "\u200boidc:42"):
        body = {"sub": "nobody", "reason": "a test", "by": name}
        assert admin.post("/revocations", body).status_code == 422
        assert admin.delete(f"/sessions/x?by={quote(name)}").status_code == 400


def test_every_page_has_the_policy_and_is_not_stored_and_files_are_kept(admin: AdminClient) -> None:
    cookie = signed_in(admin)
    for path, headers in (("/console", cookie), ("/console/sign-in", {}), ("/console/x", cookie)):
        answer = ask(admin, "GET", path, headers=headers)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*src=)|<style| style=| on[a-z]+=", answer.text)
        for file in re.findall(r'"(/console/static/[^"]+)"', answer.text):
            kept = ask(admin, "GET", file)
            assert kept.status_code == 200
            assert kept.headers.get_list("cache-control") == ["public, max-age=31536000, immutable"]
    assert admin.receiver.readyz().headers["cache-control"] == "no-store"


def test_a_form_wants_the_token_of_the_session_and_a_page_of_ours(admin: AdminClient) -> None:
    cookie = signed_in(admin)
    other = csrf_of(admin, signed_in(admin))
    for csrf in ("", other):
        form = {"csrf": csrf, "token": "a.b.c"}
        answer = ask(admin, "POST", "/console/explain", headers=cookie, data=form)
        assert answer.status_code == 403
    form = {"csrf": csrf_of(admin, cookie), "token": "a.b.c"}
    assert ask(admin, "POST", "/console/explain", headers=cookie, data=form).status_code == 200
    for foreign in (
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "null"},
        {"host": "evil.example"},
    ):
        headers = cookie | foreign
        answer = ask(admin, "POST", "/console/explain", headers=headers, data=form)
        assert answer.status_code == 403, foreign
    same = cookie | {"origin": "null", "sec-fetch-site": "same-origin"}
    assert ask(admin, "POST", "/console/explain", headers=same, data=form).status_code == 200


def test_a_link_from_elsewhere_comes_in_by_a_page_of_ours(admin: AdminClient) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "document"}  # fmt: skip
    answer = ask(admin, "GET", "/console/story?sid=a&sub=%22b", headers=PAGE | link)
    assert answer.status_code == 200
    assert 'content="0;url=/console/story?sid=a&amp;sub=%22b"' in answer.text
    framed = link | {"sec-fetch-dest": "iframe"}
    assert ask(admin, "GET", "/console", headers=framed).status_code == 403


def test_the_cookie_may_look_through_the_api_and_do_nothing_there(admin: AdminClient) -> None:
    cookie = signed_in(admin)
    assert ask(admin, "GET", "/api/apps", headers=cookie).status_code == 200
    body = {"sid": "x", "reason": "y"}
    assert ask(admin, "POST", "/api/revocations", headers=cookie, json=body).status_code == 401
    assert ask(admin, "DELETE", "/api/sessions/x", headers=cookie).status_code == 401


def test_a_sign_out_ends_the_session_also_for_who_has_kept_the_cookie(admin: AdminClient) -> None:
    cookie = signed_in(admin)
    form = {"csrf": csrf_of(admin, cookie)}
    assert ask(admin, "POST", "/console/sign-out", headers=cookie, data=form).status_code == 303
    assert ask(admin, "GET", "/console", headers=cookie).status_code == 401
    assert ask(admin, "GET", "/api/apps", headers=cookie).status_code == 401


def test_a_form_whose_session_ends_while_it_comes_is_refused(admin: AdminClient) -> None:
    cookie = signed_in(admin)
    form = {"csrf": csrf_of(admin, cookie)}

    def slowly() -> Iterator[bytes]:
        yield b"csrf="
        left = ask(admin, "POST", "/console/sign-out", headers=cookie, data=form)
        assert left.status_code == 303

    headers = cookie | {"content-type": "application/x-www-form-urlencoded"}
    with httpx.Client(base_url=admin.receiver.admin_url) as http:
        late = http.post("/console/sign-out", headers=headers, content=slowly())
    assert late.status_code == 403


def test_a_session_that_has_ended_meanwhile_can_be_ended() -> None:
    """A logout token, or another sign-out, has emptied it."""
    sessions = OperatorSessions()
    session = sessions.find(sessions.begin("ada"))
    sessions.end(session)
    sessions.end(session)
    assert session == {}


def test_looks_and_acts_are_in_the_audit_with_who_it_was(admin: AdminClient) -> None:
    cookie = signed_in(admin)
    ask(admin, "GET", "/console/story?sid=looked-at", headers=cookie)
    views = [entry for entry in admin.audit() if entry["act"] == "console.story"]
    assert views[-1]["who"] == "admin_token"
    assert "sid_hash" in views[-1]
    assert "looked-at" not in str(admin.audit())


@pytest.mark.parametrize(
    "path",
    [
        "/console?kind=nonsense&app=nobody", "/console/story?login_at=x&sid=a",
        "/console/story?iss=https://other.example&sid=a", "/console/story?sid=a&sid=b",
        "/console/story?sid=%00", "/console/nothing", "/console/sessions?user=../x",
        "/console/sessions/ending", "/console/refusals?reason=<script>",
    ],
)  # fmt: skip
def test_what_nobody_can_mean_is_said_and_breaks_nothing(admin: AdminClient, path: str) -> None:
    answer = ask(admin, "GET", path, headers=signed_in(admin))
    assert answer.status_code in (200, 303, 400, 404)
    assert "<script>" not in answer.text
    assert not admin.receiver.log_events("Exception in ASGI application\n")
