"""A user signed in at an app whose provider can be slow, unavailable or rate-limited."""

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, Locator, Page, expect

from tests.account.account_fixture import AccountClient
from tests.account.app_process import sign_in_query
from tests.console.browser import DESKTOP, open_page

MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:128.0) Gecko/20100101 Firefox/128.0"
PHONE = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Mobile Safari/537.36"
)

PATIENCE = 20_000
"""Milliseconds."""


class Visit:
    """A page of the user's own, and the ids of her sessions: this one first."""

    def __init__(self, account: AccountClient, page: Page, own: str, others: list[str]) -> None:
        self.account, self.page, self.own, self.others = account, page, own, others

    @property
    def rows(self) -> Locator:
        return self.page.locator("active-sessions li")

    @property
    def alert(self) -> Locator:
        return self.page.get_by_role("alert")

    def show(self, path: str = "/account/") -> None:
        """Open the page; whatever it shows."""
        self.page.goto(path)

    def listed(self) -> None:
        """Open the page, and see the list."""
        self.show()
        expect(self.rows.first).to_be_visible(timeout=PATIENCE)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def ask(self, session: str) -> None:
        """Want to sign out a session; it is asked whether that is meant."""
        self.row(session).get_by_role("button", name="Sign out").click()

    def sure(self) -> None:
        self.page.locator("active-sessions .sure").click()

    def row(self, session: str) -> Locator:
        return self.page.locator(f'active-sessions li[data-id="{session}"]')

    def is_alive(self, session: str) -> bool:
        return session in self.account.tenant.alive()


@contextlib.contextmanager
def visit(
    account: AccountClient,
    browser: Browser,
    app: str,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Any = "light",
    others: int = 1,
) -> Iterator[Visit]:
    """A new user, signed in at ``app`` (its address) with this browser, and elsewhere."""
    user, tenant = f"auth0|{secrets.token_hex(6)}", account.tenant
    account.user = user
    tenant.faults.clear()
    tenant.lag = 0.0
    own = tenant.add(user, device=_device(MAC))
    elsewhere = [tenant.add(user, device=_device(PHONE)) for _ in range(others)]
    # A receiver may still follow the ends of the test before: its questions must not take a fault.
    tenant.faults_for = {user, own, *elsewhere}
    with open_page(browser, app, size, scheme) as page:
        page.goto("/sign-in?" + urlencode(sign_in_query(account.session(own))))
        yield Visit(account, page, own, elsewhere)
    tenant.faults.clear()
    tenant.faults_for = set()
    tenant.lag = 0.0


def _device(agent: str) -> dict[str, str]:
    return {
        "initial_user_agent": agent, "initial_ip": "192.0.2.7",
        "last_user_agent": agent, "last_ip": "203.0.113.7",
    }  # fmt: skip
