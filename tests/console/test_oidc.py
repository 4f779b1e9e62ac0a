"""Sign-in to the console with OpenID Connect, and its end by a logout token."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from app.settings import SettingsFault, load
from tests.console.browser import chromium, open_page
from tests.console.oidc_browser import OIDC, OidcBrowser
from tests.support.provider import ABSENT
from tests.support.receiver import Receiver, config, wait_for
from tests.support.redis_server import RedisServer
from tests.support.sign_in import SignInProvider

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


@pytest.fixture(scope="module")
def receiver(
    tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer, provider: SignInProvider
) -> Iterator[Receiver]:
    settings = config(
        shared_redis.url, f'issuer = "{provider.issuer}"',
        clients='[{client_id = "console", app = "console"}]',
    ) + OIDC.format(issuer=provider.issuer)  # fmt: skip
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
        assert receiver.post(op.token(aud="console", sid=op.sid)).status_code == 200
        page.wait_for_url("**/console/sign-in")
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
        ({"iat": time.time() + 3600}, "failed"),
    ],
)
def test_an_id_token_that_does_not_fit_signs_nobody_in(
    receiver: Receiver, op: SignInProvider, claims: dict[str, object], said: str
) -> None:
    op.claims_of_user = claims
    browser = OidcBrowser(receiver)
    answer = browser.sign_in()
    assert answer.status_code == 403
    assert said in answer.text
    assert "__Host-bcl_console" not in browser.cookies
    assert browser.ask("GET", "/console").status_code == 303


def test_an_answer_for_another_browser_or_a_second_time_is_refused(receiver: Receiver) -> None:
    browser, stranger = OidcBrowser(receiver), OidcBrowser(receiver)
    page = browser.ask("POST", "/console/sign-in/oidc", data={})
    url = page.text.partition('content="0;url=')[2].partition('"')[0].replace("&amp;", "&")
    back = receiver.http.get(url).headers["location"].removeprefix(receiver.admin_url)
    assert stranger.ask("GET", back).status_code == 403
    assert browser.ask("GET", back).status_code == 403
    assert browser.ask("GET", "/console/callback").status_code == 403


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
