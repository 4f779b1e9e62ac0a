"""`<active-sessions>` and its page in each state: accessible, and never too wide."""

import json

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.account.account_fixture import AccountClient
from tests.browser.visit import PATIENCE, Visit, visit
from tests.console.browser import DESKTOP, PHONE, barriers, keep_picture, overflows
from tests.support.providers.auth0_api import fault

pytestmark = pytest.mark.slow

LOOKS = {
    "desk": (DESKTOP, "light"), "desk-dark": (DESKTOP, "dark"),
    "phone": (PHONE, "light"), "phone-dark": (PHONE, "dark"),
}  # fmt: skip


class Gallery:
    """Looks at a page in one state after the other."""

    def __init__(self, alice: Visit, look: str) -> None:
        self.alice, self.look = alice, look
        self.found: dict[str, list[str]] = {}

    def see(self, state: str, text: str) -> None:
        """The page shows ``text``, and is as it should be."""
        page = self.alice.page
        expect(page.locator("active-sessions")).to_contain_text(text, timeout=PATIENCE)
        keep_picture(page, f"sessions-{self.look}-{state}")
        self.found[state] = [*barriers(page), *(["too wide"] if overflows(page) else [])]


@pytest.mark.parametrize("look", LOOKS)
def test_each_state_is_without_barriers_and_fits(
    account: AccountClient, browser: Browser, app: str, look: str
) -> None:
    size, scheme = LOOKS[look]
    with visit(account, browser, app, size=size, scheme=scheme, others=2) as alice:
        gallery, tenant = Gallery(alice, look), account.tenant
        alice.page.goto("/embedded")
        gallery.see("embedded", "Android 14")
        alice.show()
        gallery.see("list", "Android 14")
        alice.press("Sign out everywhere else")
        gallery.see("asking-others", "Sign out of all other sessions (2)?")
        alice.press("Cancel")
        alice.ask(alice.others[0])
        gallery.see("asking", "Sign out Chrome Mobile 126 on Android 14?")
        tenant.faults.append(fault(500, "Internal Server Error", "broken"))
        alice.sure()
        gallery.see("error", "does not answer")
        tenant.lag = 3600
        alice.ask(alice.others[0])
        alice.sure()
        gallery.see("in-progress", "Signed out of 0 of 2 apps")
        tenant.carry_out_all()
        gallery.see("done", "the others follow when they are used")
        alice.show()
        expect(alice.rows).to_have_count(2)
        alice.page.route("**/account/sessions/*", unconfirmed)  # it takes ten minutes to be that
        alice.ask(alice.others[1])
        alice.sure()
        gallery.see("unconfirmed", "has not confirmed this yet")
        del tenant.sessions[alice.others[1]]
        alice.show()
        gallery.see("alone", "You are signed in nowhere else.")
        del tenant.sessions[alice.own]
        alice.show()
        gallery.see("empty", "No active sessions.")
        token = account.keys.token(sid=alice.own, sub=account.user)
        assert account.receiver.post(token).status_code == 200
        alice.page.evaluate("document.querySelector('active-sessions').load()")
        gallery.see("expired", "Sign in again")
    assert not any(gallery.found.values()), json.dumps(gallery.found, indent=1)


def unconfirmed(route: Route) -> None:
    """The answer to an end that the provider has not confirmed."""
    apps = {"total": 2, "told": 0, "let_go": 0}
    body = {"id": route.request.url.rpartition("/")[2], "apps": apps, "gone": False}
    route.fulfill(json=body | {"state": "unconfirmed", "final": True})
