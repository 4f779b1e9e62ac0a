"""The demonstration provider's sign-in: the code flow with required PKCE."""

import base64
from urllib.parse import quote_plus

import httpx
import pytest

from tests.examples.op import CONFIG, NEWS, SHOP, VERIFIER, Op, request_of, sent_back, sign_in


async def test_discovery_lists_the_endpoints(op: Op) -> None:
    metadata = (await op.browser().get("/.well-known/openid-configuration")).json()
    assert metadata["issuer"] == CONFIG.issuer
    assert metadata["backchannel_logout_session_supported"] is True
    (key,) = (await op.browser().get("/jwks")).json()["keys"]
    assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
    assert set(key) == {"kty", "n", "e", "kid", "use", "alg"}


async def test_a_login_gives_an_id_token(op: Op) -> None:
    browser = op.browser()
    answer = await browser.get("/authorize", params=request_of())
    assert answer.headers["location"].startswith("/login?")
    await sign_in(browser)
    answer = await browser.get("/authorize", params=request_of())
    back = sent_back(answer)
    assert (back["state"], back["iss"]) == ("state-1", CONFIG.issuer)

    token = await op.exchange(back["code"])

    assert token.headers["cache-control"] == "no-store"
    claims = await op.claims(token.json()["id_token"], "shop-web")
    session = (await op_session(op, claims["sid"])).json()
    assert claims == {
        "iss": CONFIG.issuer,
        "aud": "shop-web",
        "sub": "demo|alice",
        "name": "Alice",
        "iat": 1_800_000_000,
        "exp": 1_800_000_300,
        "auth_time": 1_800_000_000,
        "nonce": "nonce-1",
        "sid": session["id"],
    }


async def op_session(op: Op, sid: str) -> httpx.Response:
    return await op.browser().get(
        f"/api/v2/sessions/{sid}", headers={"Authorization": f"Bearer {CONFIG.api_token}"}
    )


async def test_the_login_continues_with_the_interrupted_request(op: Op) -> None:
    browser = op.browser()
    login = (await browser.get("/authorize", params=request_of(prompt="login"))).headers["location"]
    page = await browser.get(login)
    token = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    answer = await browser.post(login, data={"csrf": token, "user": "demo|carol"})
    back = sent_back(await browser.get(answer.headers["location"]))
    assert back["state"] == "state-1"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "=" * 43}, "invalid_request"),
        ({"response_type": ""}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"scope": ""}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "please"}, "invalid_request"),
        ({"max_age": "soon"}, "invalid_request"),
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"request_uri": "https://x.example"}, "request_uri_not_supported"),
    ],
    ids=str,
)
async def test_a_request_that_breaks_a_rule_gets_an_error_and_no_code(
    op: Op, changes: dict[str, str], error: str
) -> None:
    browser = op.browser()
    await sign_in(browser)
    back = sent_back(await browser.get("/authorize", params=request_of(**changes)))
    assert back["error"] == error
    assert back["state"] == "state-1"
    assert "code" not in back


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": ""},
        {"redirect_uri": "http://shop.example/callback/"},
        {"redirect_uri": "http://evil.example/callback"},
        {"redirect_uri": NEWS.redirect_uri},
        {"redirect_uri": ""},
    ],
    ids=str,
)
async def test_an_unregistered_client_gets_no_redirect(op: Op, changes: dict[str, str]) -> None:
    browser = op.browser()
    await sign_in(browser)
    answer = await browser.get("/authorize", params=request_of(**changes))
    assert answer.status_code == 400
    assert "location" not in answer.headers


async def test_a_repeated_parameter_gets_no_redirect(op: Op) -> None:
    pairs = [*request_of().items(), ("redirect_uri", SHOP.redirect_uri)]
    assert (await op.browser().get("/authorize", params=pairs)).status_code == 400


async def test_parameters_of_any_name_are_harmless(op: Op) -> None:
    answer = await op.browser().get("/authorize", params=request_of(url="x", self="y"))
    assert answer.headers["location"].startswith("/login?")


async def test_an_authorization_request_may_be_posted(op: Op) -> None:
    browser = op.browser()
    await sign_in(browser)
    assert sent_back(await browser.post("/authorize", data=request_of()))["code"]


async def test_a_second_client_needs_no_second_login(op: Op) -> None:
    browser = op.browser()
    await sign_in(browser)
    assert await op.sid(browser, SHOP) == await op.sid(browser, NEWS)


async def test_prompt_none_never_shows_a_page(op: Op) -> None:
    browser = op.browser()
    request = request_of(prompt="none")
    assert sent_back(await browser.get("/authorize", params=request))["error"] == "login_required"
    await sign_in(browser)
    assert sent_back(await browser.get("/authorize", params=request))["code"]


@pytest.mark.parametrize("more", [{"prompt": "login"}, {"max_age": "10"}], ids=str)
async def test_a_client_can_ask_for_a_fresh_login(op: Op, more: dict[str, str]) -> None:
    browser = op.browser()
    await sign_in(browser)
    op.clock += 11
    answer = await browser.get("/authorize", params=request_of(**more))
    assert answer.headers["location"].startswith("/login?")
    assert next(iter(more)) not in answer.headers["location"]


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": "v" * 42},
        {"code_verifier": "\N{SNOWMAN}" * 43},
        {"code_verifier": ""},
        {"redirect_uri": "http://shop.example/other"},
        {"redirect_uri": ""},
        {"client_id": NEWS.client_id, "client_secret": NEWS.client_secret},
    ],
    ids=str,
)
async def test_a_code_is_bound_to_its_request(op: Op, changes: dict[str, str]) -> None:
    browser = op.browser()
    await sign_in(browser)
    answer = await op.exchange(await op.code(browser), **changes)
    assert answer.status_code == 400
    assert answer.json() == {"error": "invalid_grant"}


@pytest.mark.parametrize("code", ["", "another"])
async def test_an_unknown_code_is_refused(op: Op, code: str) -> None:
    assert (await op.exchange(code)).json() == {"error": "invalid_grant"}


async def test_a_code_works_once(op: Op) -> None:
    browser = op.browser()
    await sign_in(browser)
    code = await op.code(browser)
    assert (await op.exchange(code)).status_code == 200
    assert (await op.exchange(code)).json() == {"error": "invalid_grant"}


async def test_a_wrong_verifier_uses_the_code_up(op: Op) -> None:
    browser = op.browser()
    await sign_in(browser)
    code = await op.code(browser)
    await op.exchange(code, code_verifier="w" * 43)
    assert (await op.exchange(code)).json() == {"error": "invalid_grant"}


async def test_a_code_expires(op: Op) -> None:
    browser = op.browser()
    await sign_in(browser)
    code = await op.code(browser)
    op.clock += 61
    assert (await op.exchange(code)).json() == {"error": "invalid_grant"}


async def test_an_ended_session_gets_no_token(op: Op) -> None:
    browser = op.browser()
    await sign_in(browser)
    sid = await op.sid(browser)
    code = await op.code(browser)
    await op.browser().delete(
        f"/api/v2/sessions/{sid}", headers={"Authorization": f"Bearer {CONFIG.api_token}"}
    )
    assert (await op.exchange(code)).json() == {"error": "invalid_grant"}


@pytest.mark.parametrize(
    "changes",
    [
        {"client_secret": "wrong"},
        {"client_secret": ""},
        {"client_secret": NEWS.client_secret},
        {"client_id": "nobody"},
        {"client_id": ""},
    ],
    ids=str,
)
async def test_a_client_must_authenticate(op: Op, changes: dict[str, str]) -> None:
    browser = op.browser()
    await sign_in(browser)
    answer = await op.exchange(await op.code(browser), **changes)
    assert answer.status_code == 401
    assert answer.json() == {"error": "invalid_client"}


async def test_the_grant_type_must_be_authorization_code(op: Op) -> None:
    answer = await op.exchange("code", grant_type="password")
    assert answer.json() == {"error": "unsupported_grant_type"}


def basic(client_id: str, secret: str) -> dict[str, str]:
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (basic(SHOP.client_id, SHOP.client_secret), 200),
        (basic(SHOP.client_id, "wrong"), 401),
        ({"Authorization": "Basic !"}, 401),
        ({"Authorization": "Bearer x"}, 401),
    ],
    ids=["right", "wrong", "no-base64", "bearer"],
)
async def test_a_client_may_authenticate_in_the_header(
    op: Op, headers: dict[str, str], status: int
) -> None:
    browser = op.browser()
    await sign_in(browser)
    data = {
        "grant_type": "authorization_code",
        "code": await op.code(browser),
        "redirect_uri": SHOP.redirect_uri,
        "code_verifier": VERIFIER,
    }
    answer = await op.browser().post("/token", data=data, headers=headers)
    assert answer.status_code == status


async def test_a_client_authenticates_in_one_place_only(op: Op) -> None:
    headers = basic(SHOP.client_id, SHOP.client_secret)
    data = {"grant_type": "authorization_code", "client_secret": SHOP.client_secret}
    answer = await op.browser().post("/token", data=data, headers=headers)
    assert answer.status_code == 401
