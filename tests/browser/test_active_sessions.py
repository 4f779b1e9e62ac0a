"""`<active-sessions>` in the demonstration's shop, with two browsers of one user."""

import asyncio
import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from examples.demo.ports import Ports
from examples.demo.services import Services, running_services
from tests.browser.visit import MAC, PATIENCE, PHONE
from tests.console.browser import barriers, keep_picture, overflows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def services() -> Iterator[Services]:
    """The demonstration, in a thread with a loop of its own."""
    ready, done = threading.Event(), threading.Event()
    found: list[Services] = []
    faults: list[BaseException] = []

    async def play(directory: Path) -> None:
        async with running_services(directory, Ports.choose(friendly=False)) as running:
            found.append(running)
            ready.set()
            while not done.is_set():
                await asyncio.sleep(0.05)

    def run() -> None:
        with tempfile.TemporaryDirectory() as directory:
            try:
                asyncio.run(play(Path(directory)))
            except BaseException as fault:  # noqa: BLE001  the test's own thread raises it
                faults.append(fault)
            finally:
                ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(60)
    if found:
        yield found[0]
    done.set()
    thread.join(30)
    assert not faults


class Person:
    """A browser of somebody who is signed in at the shop."""

    def __init__(self, services: Services, context: BrowserContext, user: str) -> None:
        self.services = services
        self.page: Page = context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda said: self.problems.append(said.text) if "Policy" in said.text else None,
        )
        self.page.goto(f"{services.shop_url}/login")
        self.page.locator(f'button[value="{user}"]').click()
        expect(self.page.get_by_text("You are signed in")).to_be_visible()

    def sessions(self) -> None:
        self.page.goto(f"{self.services.shop_url}/sessions")
        expect(self.rows.first).to_be_visible(timeout=PATIENCE)

    @property
    def rows(self):  # type: ignore[no-untyped-def]
        return self.page.locator("active-sessions li")

    @property
    def is_alive(self) -> bool:
        return self.page.request.get(f"{self.services.shop_url}/me").status == 200

    def sign_out(self, row: int) -> None:
        self.rows.nth(row).get_by_role("button", name="Sign out").click()
        self.rows.nth(row).locator(".sure").click()


@pytest.fixture
def people(services: Services, browser: Browser) -> Iterator["People"]:
    with contextlib.ExitStack() as stack:
        yield People(services, browser, stack)


class People:
    def __init__(self, services: Services, browser: Browser, stack: contextlib.ExitStack) -> None:
        self._services, self._browser, self._stack = services, browser, stack

    def signed_in(self, user: str, agent: str, **options: object) -> Person:
        context = self._browser.new_context(user_agent=agent, **options)  # type: ignore[arg-type]
        self._stack.callback(context.close)
        return Person(self._services, context, user)


ALICE, BOB = "demo|alice", "demo|bob"
CAROL = "demo|carol"
"""Signs in at one test alone, which counts her sessions."""


def test_ending_one_signs_that_one_out_of_the_app_and_not_the_other(people: People) -> None:
    laptop, phone = people.signed_in(CAROL, MAC), people.signed_in(CAROL, PHONE)
    neighbour = people.signed_in(BOB, PHONE)
    laptop.sessions()
    expect(laptop.rows.nth(0)).to_contain_text("Firefox 128 on macOS")
    expect(laptop.rows.nth(0)).to_contain_text("Current")
    expect(laptop.rows.nth(1)).to_contain_text("on Android 14")
    expect(laptop.rows.nth(1)).to_contain_text("from 127.0.0.1")
    assert laptop.rows.count() == 2

    laptop.sign_out(1)

    expect(laptop.rows.nth(1)).to_contain_text("Signed out", timeout=PATIENCE)
    expect(laptop.rows.nth(1)).to_contain_text("Signed out of all apps", timeout=PATIENCE)
    assert not phone.is_alive
    assert laptop.is_alive
    assert neighbour.is_alive
    keep_picture(laptop.page, "sessions-demo")
    phone.page.goto(f"{phone.services.shop_url}/account")
    expect(phone.page.get_by_role("alert")).to_contain_text("Your sign-in has ended")
    assert laptop.problems == []


def test_everywhere_else_leaves_the_current_one(people: People) -> None:
    own = people.signed_in(ALICE, MAC)
    others = [people.signed_in(ALICE, PHONE) for _ in range(2)]
    own.sessions()

    own.page.get_by_role("button", name="Sign out everywhere else").click()
    own.page.locator("active-sessions .sure").click()

    expect(own.page.locator("active-sessions .good")).to_have_count(
        own.rows.count() - 1, timeout=PATIENCE
    )
    assert own.is_alive
    assert not any(one.is_alive for one in others)


def test_a_double_click_and_a_second_tab_ask_for_one_end(people: People) -> None:
    own = people.signed_in(BOB, MAC)
    people.signed_in(BOB, PHONE)
    own.sessions()
    tab = own.page.context.new_page()
    tab.goto(own.page.url)
    target = own.rows.nth(1).get_attribute("data-id")
    in_tab = tab.locator(f'active-sessions li[data-id="{target}"]')
    in_tab.get_by_role("button", name="Sign out").click()
    deletes: list[str] = []
    own.page.on(
        "request", lambda asked: deletes.append(asked.url) if asked.method == "DELETE" else None
    )

    own.rows.nth(1).get_by_role("button", name="Sign out").click()
    own.rows.nth(1).locator(".sure").dblclick()
    in_tab.locator(".sure").click()

    for row in (own.page.locator(f'active-sessions li[data-id="{target}"]'), in_tab):
        expect(row).to_contain_text("Signed out of", timeout=PATIENCE)
    assert len(deletes) == 1


def test_a_session_that_is_ended_meanwhile_is_said_and_leads_to_the_login(people: People) -> None:
    own, other = people.signed_in(BOB, MAC), people.signed_in(BOB, PHONE)
    own.sessions()
    shop = own.services.shop_url
    sid = own.rows.first.get_attribute("data-id")
    ended = other.page.request.delete(
        f"{shop}/account/sessions/{sid}", headers={"X-Requested-With": "test"}
    )
    assert ended.json()["id"] == sid
    other.sessions()  # its answer comes after a while in which the shop was told
    own.page.wait_for_function("fetch('/me').then((answer) => answer.status === 401)")

    own.page.evaluate("document.querySelector('active-sessions').load()")

    expect(own.page.get_by_role("alert")).to_contain_text("Your sign-in has ended")
    expect(own.rows).to_have_count(0)
    own.page.get_by_role("button", name="Sign in again").click()
    expect(own.page.get_by_text("Choose who signs in")).to_be_visible(timeout=PATIENCE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_shops_pages_are_without_barriers(people: People, scheme: str) -> None:
    size = {"width": 375, "height": 760}
    own = people.signed_in(BOB, PHONE, color_scheme=scheme, viewport=size)
    missing: list[str] = []
    own.page.on("response", lambda one: missing.append(one.url) if one.status == 404 else None)
    for path in ("/", "/ended", "/callback"):
        own.page.goto(f"{own.services.shop_url}{path}")
        assert (barriers(own.page), overflows(own.page)) == ([], False), path
    own.sessions()
    assert (barriers(own.page), overflows(own.page)) == ([], False)
    own.page.get_by_role("link", name="Back to the shop").click()
    expect(own.page.get_by_text("You are signed in")).to_be_visible()
    assert missing == []


def test_a_page_of_another_site_can_not_end_anything(people: People) -> None:
    own = people.signed_in(ALICE, MAC)
    answer = own.page.request.delete(f"{own.services.shop_url}/account/sessions")
    assert answer.status == 403
    answer = own.page.request.delete(
        f"{own.services.shop_url}/account/sessions",
        headers={"X-Requested-With": "x", "Sec-Fetch-Site": "same-site"},
    )
    assert answer.status == 403
