"""The page below a path prefix of the app, in a browser, in each framework."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.account.account_fixture import AccountClient
from tests.account.app_process import running_apps
from tests.browser.visit import visit
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow

KINDS = ["starlette", "flask", "django-asgi", "django-wsgi"]


@pytest.fixture(scope="module")
def apps(account: AccountClient) -> Iterator[dict[str, str]]:
    with running_apps(account, *KINDS) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_works_below_any_prefix(
    apps: dict[str, str], account: AccountClient, browser: Browser, kind: str
) -> None:
    with visit(account, browser, apps[kind]) as alice:
        asked: list[str] = []
        alice.page.on("request", lambda request: asked.append(request.url))
        alice.show("/me/security")
        expect(alice.rows).to_have_count(2)
        width = alice.page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth")
        assert width == "704px"  # by page.css
        alice.ask(alice.others[0])
        alice.sure()
        wait_for(lambda: not alice.is_alive(alice.others[0]), "the other one is gone")
        assert all(one.startswith(f"{apps[kind]}/me/security") for one in asked)
