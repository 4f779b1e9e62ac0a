"""`<active-sessions>` in detail: buttons, focus, clock and language."""

import datetime
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.account.account_fixture import AccountClient
from tests.account.app_process import sign_in_query
from tests.browser.visit import PATIENCE, Visit, visit
from tests.support.providers.auth0_api import stamp

pytestmark = pytest.mark.slow

FOCUSED = "document.querySelector('active-sessions').shadowRoot.activeElement?.dataset.key"

TRANSLATED = """<!doctype html><html lang="de">
<active-sessions text-last-active-from="Zuletzt {when}, {ip}"></active-sessions>"""


@pytest.fixture
def alice(account: AccountClient, browser: Browser, app: str) -> Iterator[Visit]:
    with visit(account, browser, app, others=3) as found:
        make_older(found)
        yield found


def make_older(visit: Visit) -> None:
    """So that no time is at the edge between two words for it."""
    for session in visit.account.tenant.sessions.values():
        session["last_interacted_at"] = stamp(time.time() - 330)
        session["created_at"] = stamp(time.time() - 630)


def focused(page: Page) -> Any:
    return page.evaluate(FOCUSED)


def test_while_one_end_is_asked_for_another_can_be(alice: Visit) -> None:
    slow, quick, neighbour = alice.others
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    alice.page.route(f"**/account/sessions/{slow}", hold)
    alice.listed()
    alice.ask(slow)
    alice.sure()
    expect(alice.row(slow)).to_contain_text("Signing out")
    alice.ask(quick)
    alice.sure()
    expect(alice.row(quick)).to_contain_text("Signed out of", timeout=PATIENCE)
    assert alice.is_alive(slow)
    held[0].continue_()
    expect(alice.row(slow)).to_contain_text("Signed out of", timeout=PATIENCE)
    assert alice.is_alive(neighbour)


def test_the_focus_stays_with_the_device_that_was_signed_out(alice: Visit) -> None:
    first, *_ = alice.others
    alice.listed()
    alice.ask(first)
    alice.page.keyboard.press("Shift+Tab")
    assert focused(alice.page) == "yes"
    alice.page.keyboard.press("Enter")
    expect(alice.row(first)).to_contain_text("Signed out of", timeout=PATIENCE)
    assert focused(alice.page) == f"row-{first}"


def test_after_a_failure_the_focus_is_at_the_button_again(alice: Visit) -> None:
    first, *_ = alice.others
    alice.page.route(f"**/account/sessions/{first}", lambda one: one.fulfill(status=500, json={}))
    alice.listed()
    alice.ask(first)
    alice.sure()
    expect(alice.alert).to_be_visible()
    assert focused(alice.page) == first


def test_the_question_names_the_device_and_each_button_says_which_of_two_alike(
    alice: Visit,
) -> None:
    alice.listed()
    button = alice.row(alice.others[0]).get_by_role("button", name="Sign out")
    expect(button).to_have_accessible_description(
        "Last active 5 minutes ago from 203.0.113.7 First sign-in 10 minutes ago from 192.0.2.7"
    )
    alice.ask(alice.others[0])
    expect(alice.row(alice.others[0])).to_contain_text("Sign out Chrome Mobile 126 on Android 14?")


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_browsers_clock_that_is_wrong_changes_no_time(alice: Visit, hours: int) -> None:
    wrong = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
    alice.page.clock.set_fixed_time(wrong)
    alice.listed()
    expect(alice.rows.first).to_contain_text("Last active 5 minutes ago")
    expect(alice.rows.first).to_contain_text("First sign-in 10 minutes ago")


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<!doctype html><active-sessions></active-sessions>", "Last active 5 minutes ago"),
        ('<!doctype html><html lang="de"><active-sessions></active-sessions>',
         "Last active 5 minutes ago"),
        (TRANSLATED, "Zuletzt vor 5 Minuten, "),
    ],
    ids=["no language", "a German page", "translated"],
)  # fmt: skip
def test_texts_and_times_are_in_one_language(
    account: AccountClient, browser: Browser, app: str, page: str, text: str
) -> None:
    with visit(account, browser, app) as alice:
        make_older(alice)
        context = browser.new_context(base_url=app, locale="de-DE")
        german = context.new_page()
        german.goto("/sign-in?" + urlencode(sign_in_query(account.session(alice.own))))
        german.route("**/bare", lambda one: one.fulfill(content_type="text/html", body=page))
        german.goto("/bare")
        german.evaluate("import('/account/active-sessions.js').then(() => 1)")
        expect(german.locator("active-sessions li").first).to_contain_text(text, timeout=PATIENCE)
        context.close()
