"""Sign-in to the console with OpenID Connect, and its end by a logout token."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from playwright.sync_api import expect

from app.config.load import SettingsFault, load
from app.console.sign_in.code_exchanges import MAX_PER_PEER
from app.console.sign_in.pending import PENDING_COOKIE
from tests.console.browser import chromium, keep_picture, open_page
from tests.console.oidc_browser import OIDC, OidcBrowser
from tests.support.providers.provider import ABSENT
from tests.support.providers.sign_in import SignInProvider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def provider() -> Iterator[SignInProvider]:
    with SignInProvider() as running:
        yield running


@pytest.fixture
def op(provider: SignInProvider) -> SignInProvider:
    """As it was, with a session of the test's own."""
    provider.claims_of_user = {}
    provider.sid = uuid.uuid4().hex
    return provider


def settings_for(redis: RedisServer, provider: SignInProvider) -> str:
    clients = '[{client_id = "console", app = "console"}]'
    own = config(redis.url, f'issuer = "{provider.issuer}"', clients=clients)
    return own + OIDC.format(issuer=provider.issuer)


@pytest.fixture(scope="module")
def receiver(
    tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer, provider: SignInProvider
) -> Iterator[Receiver]:
    settings = settings_for(shared_redis, provider)
    running = Receiver(tmp_path_factory.mktemp("receiver"), settings).start()
    yield running
    running.stop()


def test_who_has_the_group_comes_in_and_a_logout_token_ends_it_within_a_second(
    receiver: Receiver, op: SignInProvider
) -> None:
    browser = OidcBrowser(receiver)
    assert browser.sign_in().status_code == 200
    assert "ada" in browser.ask("GET", "/console").text
    assert receiver.post(op.token(aud="console", sid="another")).status_code == 200
    assert browser.ask("GET", "/console").status_code == 200
    assert receiver.post(op.token(aud="console", sid=op.sid)).status_code == 200
    wait_for(lambda: browser.ask("GET", "/console").status_code == 303, "it is signed out")


def test_an_open_page_goes_to_the_sign_in_when_the_provider_ends_the_session(
    receiver: Receiver, op: SignInProvider
) -> None:
    with chromium() as program, open_page(program, receiver.admin_url) as page:
        page.goto("/console/sign-in")
        page.click("text=Sign in with your provider")
        page.wait_for_url("**/console")
        expect(page.locator("#feed-state")).to_have_text("live")
        page.goto("/console/refusals?reason=signature")
        assert receiver.post(op.token(aud="console", sid=op.sid)).status_code == 200
        op.sid = uuid.uuid4().hex
        page.wait_for_url("**/console/sign-in?next=**")
        expect(page.locator(".card [role=status]")).to_contain_text(
            "provider has ended your session"
        )
        keep_picture(page, "sign-in-ended")
        page.click("text=Sign in with your provider")
        page.wait_for_url("**/console/refusals?reason=signature")
        # The cookie stays strict: it is set by an answer that a foreign page had asked for.
        (cookie,) = [one for one in page.context.cookies() if "console" in str(one["name"])]
        assert (cookie["sameSite"], cookie["secure"], cookie["httpOnly"]) == ("Strict", True, True)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"groups": ["sales"]}, "may not use"),
        ({"groups": "on"}, "may not use"),
        ({"groups": ABSENT}, "may not use"),
        ({"nonce": "another"}, "failed"),
        ({"nonce": ABSENT}, "failed"),
        ({"aud": "shop"}, "failed"),
        ({"azp": "shop"}, "failed"),
        ({"iss": "https://other.example"}, "failed"),
        ({"exp": 100}, "failed"),
        ({"exp": ABSENT}, "failed"),
        ({"iat": 4_000_000_000}, "failed"),
    ],
)
def test_an_id_token_that_does_not_fit_signs_nobody_in(
    receiver: Receiver, op: SignInProvider, claims: dict[str, object], said: str
) -> None:
    op.claims_of_user = claims
    browser = OidcBrowser(receiver)
    answer = browser.sign_in()
    assert answer.status_code == 303
    assert "code" not in answer.headers["location"], "the address with the code is left"
    assert said in browser.ask("GET", answer.headers["location"]).text
    assert "__Host-bcl_console" not in browser.cookies
    assert browser.ask("GET", "/console").status_code == 303


@pytest.mark.usefixtures("op")
def test_an_answer_for_another_browser_is_refused_and_disturbs_nobody(
    receiver: Receiver,
) -> None:
    browser, stranger = OidcBrowser(receiver), OidcBrowser(receiver)
    back = browser.back_from(browser.leave())
    stranger.leave()
    for other in (stranger, OidcBrowser(receiver)):
        answer = other.ask("GET", back)
        assert answer.headers["location"] == "/console/sign-in?fault=not_begun"
    assert browser.ask("GET", "/console/callback?code=x&state=guessed").status_code == 303
    assert browser.ask("GET", back).status_code == 200, "its own sign-in is still under way"


@pytest.mark.usefixtures("op")
def test_an_answer_is_taken_once(receiver: Receiver) -> None:
    browser = OidcBrowser(receiver)
    back = browser.back_from(browser.leave())
    cookies = dict(browser.cookies)
    assert browser.ask("GET", back).status_code == 200
    assert "fault=not_begun" in browser.ask("GET", back).headers["location"]
    browser.cookies = cookies  # one that keeps the cookie although it was told to forget it
    assert "fault=used" in browser.ask("GET", back).headers["location"]


def test_answers_with_guessed_codes_lock_nobody_out(receiver: Receiver, op: SignInProvider) -> None:
    """One sign-in that was begun costs the provider one request, however often it is answered."""
    before = op.token_requests
    flood = OidcBrowser(receiver)
    state = parse_qs(urlsplit(flood.leave()).query)["state"][0]
    cookies = dict(flood.cookies)
    for n in range(40):
        flood.cookies = dict(cookies)
        answer = flood.ask("GET", f"/console/callback?code=guess-{n}&state={state}")
        assert "fault=throttled" not in answer.headers["location"]
    assert op.token_requests == before + 1
    for _ in range(110):
        state = parse_qs(urlsplit(flood.leave()).query)["state"][0]
        answer = flood.ask("GET", f"/console/callback?code=guess&state={state}")
        assert "fault=failed" in answer.headers["location"]
    assert OidcBrowser(receiver).sign_in().status_code == 200


def test_an_address_that_keeps_the_provider_busy_leaves_room_for_others(
    receiver: Receiver, op: SignInProvider
) -> None:
    op.hanging_code, held = "hang", 2 * MAX_PER_PEER
    pending = []
    for _ in range(held):
        browser = OidcBrowser(receiver)
        state = parse_qs(urlsplit(browser.leave()).query)["state"][0]
        pending.append((browser, f"/console/callback?code=hang&state={state}"))
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=elsewhere) as http, ThreadPoolExecutor(held) as pool:
        other = OidcBrowser(receiver, http)
        back = other.back_from(other.leave())
        answers = [pool.submit(browser.ask, "GET", path) for browser, path in pending]
        try:
            wait_for(lambda: op.hanging >= MAX_PER_PEER, "the provider hangs")
            assert other.ask("GET", back).status_code == 200
        finally:
            op.let_go.set()
        for one in answers:
            assert one.result().status_code == 303
    assert OidcBrowser(receiver).sign_in().status_code == 200


def test_sign_ins_that_others_begin_cancel_nobodys_and_ask_the_provider_nothing(
    receiver: Receiver, op: SignInProvider
) -> None:
    browser = OidcBrowser(receiver)
    url = browser.leave()
    before = op.requests.total()
    for _ in range(300):
        OidcBrowser(receiver).leave()
    assert op.requests.total() == before
    assert browser.ask("GET", browser.back_from(url)).status_code == 200


@pytest.mark.usefixtures("op")
def test_a_pending_sign_in_can_not_be_made_up(receiver: Receiver) -> None:
    """The cookie holds where to go; whoever changes it has none."""
    browser = OidcBrowser(receiver)
    back = browser.back_from(browser.leave())
    sealed = browser.cookies[PENDING_COOKIE]
    assert "console" not in sealed
    for made_up in (sealed[:-2] + "A=", sealed[:40], "e30", ""):
        browser.cookies[PENDING_COOKIE] = made_up
        assert "fault=not_begun" in browser.ask("GET", back).headers["location"]
    browser.cookies[PENDING_COOKIE] = sealed
    assert browser.ask("GET", back).status_code == 200


def test_whoever_is_refused_can_choose_another_account(
    receiver: Receiver, op: SignInProvider
) -> None:
    with chromium() as program, open_page(program, receiver.admin_url) as page:
        op.claims_of_user = {"groups": ["sales"]}
        page.goto("/console/refusals?reason=signature")
        page.click("text=Sign in with your provider")
        page.wait_for_url("**/console/sign-in?fault=not_allowed**")
        expect(page.locator("[role=alert]")).to_contain_text("may not use the console")
        keep_picture(page, "sign-in-not-allowed")
        assert "prompt" not in op.last_query
        op.claims_of_user = {}
        page.click("text=Sign in with another account")
        page.wait_for_url("**/console/refusals?reason=signature")
        assert op.last_query["prompt"] == "login"


def test_signing_out_ends_the_session_at_the_provider_where_it_has_an_address_for_that(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    with SignInProvider() as op:
        op.discovery["end_session_endpoint"] = op.origin + "/sign-out"
        op.discovery["prompt_values_supported"] = ["none", "login", "select_account"]
        receiver = Receiver(tmp_path / "receiver", settings_for(shared_redis, op)).start()
        try:
            browser = OidcBrowser(receiver)
            assert "prompt=select_account" in browser.leave(account="another")
            with chromium() as program, open_page(program, receiver.admin_url) as page:
                page.goto("/console/sign-in")
                page.click("text=Sign in with your provider")
                page.wait_for_url("**/console")
                page.click("text=Sign out")
                page.wait_for_url(op.origin + "/sign-out**")
                claims = jwt.decode(
                    op.last_query["id_token_hint"], options={"verify_signature": False}
                )
                assert (claims["sub"], op.last_query["client_id"]) == ("admin-1", "console")
                page.goto(receiver.admin_url + "/console")
                assert page.url.endswith("/console/sign-in")
            assert op.last_query["id_token_hint"] not in receiver.log
        finally:
            receiver.stop()


def test_after_a_restart_the_sign_in_says_so_and_leads_back(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    """Also for somebody who was on the way to the provider."""
    with SignInProvider() as op:
        receiver = Receiver(tmp_path / "receiver", settings_for(shared_redis, op)).start()
        try:
            browser, waiting = OidcBrowser(receiver), OidcBrowser(receiver)
            browser.sign_in()
            back = waiting.back_from(waiting.leave(next="/console/health"))
            receiver.stop()
            receiver.start()
            to = browser.ask("GET", "/console/health").headers["location"]
            assert to == "/console/sign-in?next=%2Fconsole%2Fhealth"
            assert "was restarted" in browser.ask("GET", to).text
            assert "fault=not_begun" in waiting.ask("GET", back).headers["location"]
        finally:
            receiver.stop()


def test_the_audit_names_a_person_by_the_provider_and_not_by_a_name_that_was_chosen(
    receiver: Receiver, op: SignInProvider, shared_redis: RedisServer
) -> None:
    for chosen, who in (
        ("admin_token", "oidc:admin-1 (admin_token)"),
        ("x) oidc:boss (Boss", "oidc:admin-1 (x oidc:boss Boss)"),
        ("\u202eada\x1b[2J\n", "oidc:admin-1 (ada[2J)"),
        (ABSENT, "oidc:admin-1"),
        (7, "oidc:admin-1"),
    ):
        op.claims_of_user = {"preferred_username": chosen}
        browser = OidcBrowser(receiver)
        assert browser.sign_in().status_code == 200
        entry = audited(shared_redis)
        assert (entry["act"], entry["who"]) == ("console.sign_in", who)
        assert entry["who_iss"] == entry["iss"] == op.issuer
        assert "sub_hash" in entry
        assert who in browser.ask("GET", "/console/health").text


def test_refused_sign_ins_are_in_the_audit(
    receiver: Receiver, op: SignInProvider, shared_redis: RedisServer
) -> None:
    op.claims_of_user = {"groups": ["sales"]}
    OidcBrowser(receiver).sign_in()
    entry = audited(shared_redis)
    assert (entry["act"], entry["outcome"]) == ("console.sign_in", "refused")
    assert (entry["why"], entry["who"]) == ("not_allowed", "oidc:admin-1 (ada)")
    assert entry["who_iss"] == op.issuer
    OidcBrowser(receiver).ask("GET", "/console/callback?code=x&state=y")
    entry = audited(shared_redis)
    assert (entry["outcome"], entry["why"], entry["who"]) == ("refused", "not_begun", "-")


def audited(redis: RedisServer) -> dict[str, str]:
    """The newest entry of the audit."""
    client: Any = redis.client()
    with client:
        ((_, fields),) = client.xrevrange("bcl:v1:audit", count=1)
    return dict(fields)


def test_the_settings_say_who_may_come_in_and_name_a_client_that_is_configured(
    tmp_path: Path,
) -> None:
    path = tmp_path / "settings.toml"
    base = config("redis://127.0.0.1:1", 'issuer = "https://op.example"')
    table = '[admin_oidc]\nissuer = "{}"\nclient_id = "{}"\nclient_secret = "x"\n{}\n'
    for issuer, client, who, fault in [
        ("https://op.example", "shop-web", "", "required_group or required_claim"),
        ("https://other.example", "shop-web", 'required_group = "a"', "none of the issuers"),
        ("https://op.example", "console", 'required_group = "a"', "no client of that issuer"),
    ]:
        path.write_text(base + table.format(issuer, client, who))
        with pytest.raises(SettingsFault, match=fault):
            load(path, {})
    claim = 'required_claim = {name = "role", value = "admin"}'
    path.write_text(base + table.format("https://op.example", "shop-web", claim))
    assert load(path, {}).admin_oidc is not None
