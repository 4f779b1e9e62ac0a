"""The demonstration provider's pages and session API, and the resulting logout tokens."""

import asyncio

import httpx
import jwt
import pytest

from tests.examples.op import API, CONFIG, NEWS, Op, csrf, sign_in


async def end_on_page(browser: httpx.AsyncClient, sid: str) -> httpx.Response:
    """Press "End session" on the user's own page."""
    fields = {"csrf": await csrf(browser, "/sessions"), "session_id": sid}
    return await browser.post("/sessions", data=fields)


async def until_delivered(op: Op, number: int) -> None:
    async with asyncio.timeout(5):
        while len(op.posted) < number:
            await asyncio.sleep(0)


async def test_ending_a_session_posts_a_logout_token(op: Op) -> None:
    laptop, phone = op.browser(), op.browser()
    await sign_in(laptop)
    await sign_in(phone)
    kept, ended = await op.sid(laptop), await op.sid(phone)
    op.clock += 60

    await end_on_page(laptop, ended)

    ((url, fields),) = op.posted
    assert url == "http://receiver.example/backchannel-logout"
    assert set(fields) == {"logout_token"}
    header = jwt.get_unverified_header(fields["logout_token"])
    assert (header["typ"], header["alg"]) == ("logout+jwt", "RS256")
    claims = await op.claims(fields["logout_token"], "shop-web")
    assert claims.pop("jti")
    assert claims == {
        "iss": CONFIG.issuer,
        "aud": "shop-web",
        "sub": "demo|alice",
        "sid": ended,
        "iat": 1_800_000_060,
        "exp": 1_800_000_180,
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    }
    assert (await laptop.get("/sessions")).status_code == 200
    assert (await phone.get("/sessions")).headers["location"] == "/login"
    assert (await op.browser().get(f"/api/v2/sessions/{kept}", headers=API)).status_code == 200


async def test_every_client_of_the_session_gets_a_token_and_no_other(op: Op) -> None:
    both, one = op.browser(), op.browser()
    await sign_in(both)
    await sign_in(one)
    sid = await op.sid(both)
    assert await op.sid(both, NEWS) == sid
    await end_on_page(both, sid)
    assert {url for url, _ in op.posted} == {
        "http://receiver.example/backchannel-logout",
        "http://other.example/backchannel-logout",
    }
    op.posted.clear()
    await end_on_page(one, await op.sid(one))
    assert [url for url, _ in op.posted] == ["http://receiver.example/backchannel-logout"]


async def test_an_unused_session_sends_no_token(op: Op) -> None:
    browser = op.browser()
    await sign_in(browser)
    (session,) = await sessions_of(op, "demo%7Calice")
    await end_on_page(browser, session["id"])
    assert op.posted == []


@pytest.mark.parametrize(
    ("answer", "shown", "status", "error"),
    [
        (httpx.Response(200), ">200<", 200, None),
        (httpx.Response(503), ">503<", 503, None),
        (httpx.ConnectError("refused"), "none: ConnectError", None, "ConnectError"),
    ],
    ids=["accepted", "refused", "unreachable"],
)
async def test_the_result_of_a_delivery_is_shown(
    op: Op, answer: httpx.Response | Exception, shown: str, status: int | None, error: str | None
) -> None:
    laptop, phone = op.browser(), op.browser()
    await sign_in(laptop)
    await sign_in(phone)
    sid = await op.sid(phone)
    op.answer = answer
    await end_on_page(laptop, sid)
    assert shown in (await laptop.get("/sessions")).text
    (delivery,) = (await laptop.get("/api/deliveries", headers=API)).json()["deliveries"]
    assert delivery["session_id"] == sid
    assert (delivery["status"], delivery["error"]) == (status, error)
    assert delivery["milliseconds"] >= 0


async def test_another_users_session_cannot_be_ended(op: Op) -> None:
    alice, bob = op.browser(), op.browser()
    await sign_in(alice, "alice")
    await sign_in(bob, "bob")
    sid = await op.sid(bob)
    await end_on_page(alice, sid)
    assert op.posted == []
    assert sid not in (await alice.get("/sessions")).text
    assert sid in (await bob.get("/sessions")).text


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_a_form_from_elsewhere_changes_nothing(op: Op, token: str) -> None:
    browser = op.browser()
    await sign_in(browser)
    sid = await op.sid(browser)
    for path in ("/sessions", "/login", "/end-session"):
        fields = {"csrf": token, "session_id": sid, "user": "demo|bob"}
        assert (await browser.post(path, data=fields)).status_code == 403
    assert op.posted == []
    assert "Where Alice is signed in" in (await browser.get("/sessions")).text


async def test_another_login_in_a_browser_ends_the_previous_session(op: Op) -> None:
    browser = op.browser()
    await sign_in(browser, "alice")
    before = await op.sid(browser)
    await sign_in(browser, "bob")
    await until_delivered(op, 1)
    assert (await browser.get(f"/api/v2/sessions/{before}", headers=API)).status_code == 404
    assert await op.sid(browser) != before


async def test_input_from_browsers_is_escaped(op: Op) -> None:
    browser = op.browser("<script>alert(1)</script>")
    await sign_in(browser)
    page = await browser.get("/sessions")
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"


async def test_the_cookie_is_httponly_and_samesite(op: Op) -> None:
    cookie = (await op.browser().get("/login")).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


# -- the session API -----------------------------------------------------------------------


async def sessions_of(op: Op, user: str) -> list[dict[str, object]]:
    answer = await op.browser().get(f"/api/v2/users/{user}/sessions", headers=API)
    found: list[dict[str, object]] = answer.json()["sessions"]
    return found


async def test_a_session_has_the_names_of_auth0(op: Op) -> None:
    browser = op.browser("Firefox/1")
    await sign_in(browser)
    sid = await op.sid(browser)
    op.clock += 5
    await browser.get("/sessions", headers={"User-Agent": "Firefox/2"})

    answer = await op.browser().get(f"/api/v2/sessions/{sid}", headers=API)

    signed_in, seen = "2027-01-15T08:00:00.250Z", "2027-01-15T08:00:05.250Z"
    assert answer.json() == {
        "id": sid,
        "user_id": "demo|alice",
        "created_at": signed_in,
        "updated_at": seen,
        "authenticated_at": signed_in,
        "idle_expires_at": "2027-01-18T08:00:05.250Z",
        "expires_at": "2027-02-14T08:00:00.250Z",
        "last_interacted_at": seen,
        "device": {
            "initial_user_agent": "Firefox/1",
            "initial_ip": "127.0.0.1",
            "initial_asn": "64496",
            "last_user_agent": "Firefox/2",
            "last_ip": "127.0.0.1",
            "last_asn": "64496",
        },
        "clients": [{"client_id": "shop-web"}],
        "authentication": {"methods": [{"name": "mock", "timestamp": signed_in}]},
        "cookie": {"mode": "non-persistent"},
    }


async def test_deleting_a_session_is_accepted_and_sends_tokens(op: Op) -> None:
    browser = op.browser()
    await sign_in(browser)
    path = f"/api/v2/sessions/{await op.sid(browser)}"
    assert (await op.browser().delete(path, headers=API)).status_code == 202
    await until_delivered(op, 1)
    assert (await op.browser().get(path, headers=API)).status_code == 404
    assert (await op.browser().delete(path, headers=API)).status_code == 404


async def test_deleting_a_users_sessions_spares_the_other_users(op: Op) -> None:
    for user in ("alice", "alice", "bob"):
        browser = op.browser()
        await sign_in(browser, user)
        await op.sid(browser)
    path = "/api/v2/users/demo%7Calice/sessions"
    assert (await op.browser().delete(path, headers=API)).status_code == 202
    await until_delivered(op, 2)
    assert await sessions_of(op, "demo%7Calice") == []
    assert len(await sessions_of(op, "demo%7Cbob")) == 1
    assert (await op.browser().delete(path, headers=API)).status_code == 202


async def test_a_users_sessions_are_paged(op: Op) -> None:
    for _ in range(5):
        await sign_in(op.browser())
    path, found, start = "/api/v2/users/demo%7Calice/sessions", [], None
    for _ in range(3):
        params = {"take": "2"} | ({"from": start} if start else {})
        answer = (await op.browser().get(path, params=params, headers=API)).json()
        found += [session["id"] for session in answer["sessions"]]
        start = answer.get("next")
    assert start is None
    assert sorted(found) == sorted(one["id"] for one in await sessions_of(op, "demo%7Calice"))


@pytest.mark.parametrize("query", ["take=0", "take=x", "from=x"])
async def test_an_invalid_page_is_refused(op: Op, query: str) -> None:
    answer = await op.browser().get(f"/api/v2/users/demo%7Calice/sessions?{query}", headers=API)
    assert answer.status_code == 400


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["/api/v2/sessions/x", "/api/v2/users/x/sessions"])
async def test_the_api_needs_its_token_and_answers_404_for_unknown_ids(
    op: Op, method: str, path: str
) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer \xff"}):
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = await op.browser().request(method, path, headers=raw)
        assert answer.status_code == 401
        assert answer.json()["statusCode"] == 401
    unknown = await op.browser().request(method, path, headers=API)
    assert unknown.status_code == 404
    assert unknown.json() == {"statusCode": 404, "error": "Not Found", "message": "Not Found"}


async def test_an_expired_session_is_gone(op: Op) -> None:
    browser = op.browser()
    await sign_in(browser)
    op.clock += 3 * 86400
    assert (await browser.get("/sessions")).headers["location"] == "/login"
    assert await sessions_of(op, "demo%7Calice") == []


# -- RP-Initiated Logout -------------------------------------------------------------------


async def sign_out(op: Op, **query: str) -> httpx.Response:
    """A client sends the browser to the provider's logout, and the user confirms."""
    browser = op.browser()
    await sign_in(browser)
    await op.sid(browser)
    page = await browser.get("/end-session", params=query)
    assert "Sign out?" in page.text
    assert op.posted == []
    token = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    answer = await browser.post("/end-session", params=query, data={"csrf": token})
    assert len(op.posted) == 1
    assert (await browser.get("/sessions")).headers["location"] == "/login"
    return answer


async def test_the_browser_returns_to_the_client_after_the_logout(op: Op) -> None:
    answer = await sign_out(
        op, client_id="shop-web", post_logout_redirect_uri="http://shop.example/", state="s"
    )
    assert answer.headers["location"] == "http://shop.example/?state=s"


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"client_id": "shop-web"},
        {"post_logout_redirect_uri": "http://shop.example/"},
        {"client_id": "shop-web", "post_logout_redirect_uri": "http://evil.example/"},
        {"client_id": "news-web", "post_logout_redirect_uri": "http://shop.example/"},
        {"id_token_hint": "forged", "post_logout_redirect_uri": "http://shop.example/"},
    ],
    ids=str,
)
async def test_a_logout_never_redirects_to_an_unregistered_uri(
    op: Op, query: dict[str, str]
) -> None:
    answer = await sign_out(op, **query)
    assert answer.status_code == 200
    assert "You are signed out." in answer.text


async def test_the_id_token_hint_identifies_the_client(op: Op) -> None:
    browser = op.browser()
    await sign_in(browser)
    hint = (await op.exchange(await op.code(browser))).json()["id_token"]
    other = await op.browser().get(
        "/end-session",
        params={"id_token_hint": hint, "post_logout_redirect_uri": "http://shop.example/"},
    )
    assert other.headers["location"] == "http://shop.example/"
