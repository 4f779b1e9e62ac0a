"""The console's pages in a real browser."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from backchannel_logout import AppKeys
from tests.admin.api_fixture import TOKEN, AdminClient, Listener, admin_client
from tests.console.browser import open_page, sign_in
from tests.console.sample_data import add_receipt, fill
from tests.support.apps.listening import event
from tests.support.providers.provider import ABSENT
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow


def test_the_first_view_is_under_a_hundred_kilobytes(admin: AdminClient, page: Page) -> None:
    fill(admin)
    sizes: list[int] = []
    page.on("response", lambda one: sizes.append(
        0 if "feed" in one.url else len(one.body()) + sum(len(k) + len(v) + 4
            for k, v in one.headers.items())))  # fmt: skip
    page.goto("/console")
    expect(page.locator("#feed-state")).to_have_text("live")
    assert len(sizes) >= 3
    assert sum(sizes) < 100_000


def test_the_first_view_is_four_small_requests_and_no_script_stops_it(
    admin: AdminClient, page: Page
) -> None:
    """The page, its style, its script and its icon: two round trips, and rows before any script."""
    fill(admin)
    page.goto("about:blank")  # the page after the sign-in asks for its icon late
    seen: list[str] = []
    page.on("request", lambda one: seen.append(urlsplit(one.url).path))
    page.goto("/console")
    expect(page.locator("#feed-state")).to_have_text("live")

    def has_its_icon() -> bool:
        page.wait_for_timeout(20)  # lets the requests be seen
        return any(one.endswith(".svg") for one in seen)

    wait_for(has_its_icon, "the icon is asked for", every=0)
    files = [one for one in seen if one.startswith("/console/static/")]
    assert seen[0] == "/console"
    assert "/api/feed" in seen
    assert {one.rpartition(".")[2] for one in files} <= {"css", "js", "svg"}
    assert len(set(files)) == 3
    assert set(seen) - set(files) == {"/console", "/api/feed"}
    assert page.locator("script:not([type=module]):not([async]):not([defer])").count() == 0
    sizes = page.evaluate("""performance.getEntriesByType("resource").map((one) =>
        [one.initiatorType, one.renderBlockingStatus])""")
    assert [one for one, blocks in sizes if blocks == "blocking"] == ["link"], "the style alone"


def test_rows_that_came_live_are_the_same_after_a_reload(admin: AdminClient, page: Page) -> None:
    page.goto("/console")
    expect(page.locator("#feed-state")).to_have_text("live")
    before = page.locator("#rows tr").count()
    admin.receiver.post(admin.keys.token(sid="the-same"))
    admin.receiver.post(admin.keys.token(sid=ABSENT, sub="a-user"))
    admin.receiver.post(admin.keys.token(nonce="n"))
    admin.post("/revocations", {"all": True, "app": "news", "reason": "a test"})
    unreadable = admin.redis.xadd(AppKeys("shop").events, {"v": "9"})
    expect(page.locator("#rows tr")).to_have_count(before + 5)

    def shown() -> list[list[str]]:
        rows = page.locator("#rows tr").all()
        return sorted([cell.inner_text() for cell in one.locator("td").all()] for one in rows[:5])

    live = shown()
    page.reload()
    assert shown() == live
    assert "Everybody" in str(live)
    admin.redis.xdel(AppKeys("shop").events, unreadable)  # it passes every filter


def test_what_comes_between_the_page_and_its_stream_is_not_lost(
    admin: AdminClient, page: Page
) -> None:
    def then_more(route: Any) -> None:
        """The page is here, and its script is not yet."""
        admin.receiver.post(admin.keys.token(sid="in-between"))
        route.continue_()

    page.route("**/console.*.js", then_more)
    page.goto("/console?text=in-between")
    expect(page.locator("#rows tr")).to_have_count(1)
    page.unroute_all()
    page.reload()
    expect(page.locator("#feed-state")).to_have_text("live")
    assert page.locator("#rows tr").count() == 1, "and nothing comes twice"


HIDDEN = """(hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_tabs_that_nobody_sees_leave_the_browsers_connections_to_the_one_that_is_seen(
    admin: AdminClient, page: Page
) -> None:
    """Six to one origin are all that there are. Chromium without a window shows every tab, so
    each is told that it is hidden; that it listens no more, and what it shows, is real."""
    tabs = [page, *(page.context.new_page() for _ in range(8))]
    for tab in tabs:
        tab.goto("/console?text=for-tabs")
        expect(tab.locator("#feed-state")).to_have_text("live")
        tab.evaluate(HIDDEN, True)
    for n in range(70):
        admin.receiver.post(admin.keys.token(sid=f"for-tabs-{n}"))
    first = tabs[0]
    assert first.locator("#rows tr").count() == 0
    first.evaluate(HIDDEN, False)
    expect(first.locator("#rows tr")).to_have_count(70)
    expect(first.locator("#rows tr").first).to_contain_text("for-tabs-69")
    admin.receiver.post(admin.keys.token(sid="for-tabs-last"))
    expect(first.locator("#rows tr").first).to_contain_text("for-tabs-last")


def test_a_feed_comes_back_by_itself_when_there_is_room(tmp_path: Path, browser: Browser) -> None:
    """Also through answers that an EventSource would give up at."""
    with admin_client(tmp_path) as own, open_page(browser, own.receiver.admin_url) as page:
        feeds = [Listener(own) for _ in range(32)]
        for one in feeds:
            one.next()
        sign_in(page, TOKEN)
        expect(page.locator("#feed-state")).to_contain_text("trying again")
        own.receiver.post(own.keys.token(sid="meanwhile"))
        for one in feeds:
            one.__exit__(None, None, None)
        expect(page.locator("#feed-state")).to_have_text("live", timeout=30_000)
        expect(page.locator("#rows")).to_contain_text("meanwhile")


def test_a_filter_for_an_app_that_is_not_configured_says_so_and_asks_for_no_feed(
    admin: AdminClient, page: Page
) -> None:
    admin.receiver.post(admin.keys.token())
    asked: list[str] = []
    page.on("request", lambda one: asked.append(urlsplit(one.url).path))
    with page.expect_request("**/console/presence"):  # the script runs
        page.goto("/console?app=nobodys")
    expect(page.get_by_role("alert")).to_have_text("No app of this name is configured.")
    assert "/api/feed" not in asked
    assert page.locator("tbody tr").count() == 0
    page.select_option("#f-app", "shop")
    page.click("button:has-text('Filter')")
    expect(page.locator("#feed-state")).to_have_text("live")
    assert page.locator("#rows tr").count() > 0


def test_an_old_event_is_found_by_its_text_behind_ten_thousand_others(
    admin: AdminClient, page: Page
) -> None:
    keys = AppKeys("news")
    admin.redis.xadd(keys.events, event("news", "the-needle").to_fields())
    pipeline = admin.redis.pipeline(transaction=False)
    for n in range(10_000):
        pipeline.xadd(keys.events, event("news", f"hay-{n}").to_fields())
    pipeline.execute()
    page.goto("/console?text=The-Needle")
    expect(page.locator("#rows tr")).to_have_count(1)
    admin.redis.xtrim(keys.events, maxlen=100, approximate=False)


def test_a_logout_and_a_refusal_come_into_the_feed_by_themselves(
    admin: AdminClient, page: Page
) -> None:
    page.goto("/console?text=seen-live")
    expect(page.locator("#feed-state")).to_have_text("live")
    expect(page.locator("#nothing")).to_be_visible()
    admin.receiver.post(admin.keys.token(sid="another"))
    admin.receiver.post(admin.keys.token(sid="seen-live"))
    expect(page.locator("#rows tr")).to_have_count(1)
    page.goto("/console?kind=refusal&reason=nonce")
    expect(page.locator("#feed-state")).to_have_text("live")
    before = page.locator("#rows tr").count()  # of other tests
    admin.receiver.post(admin.keys.token(nonce="n"))
    expect(page.locator("#rows tr")).to_have_count(before + 1)
    expect(page.locator("#rows")).to_contain_text("nonce")


def test_ten_thousand_events_leave_some_hundred_rows_and_a_page_that_answers(
    admin: AdminClient, page: Page
) -> None:
    page.goto("/console")
    expect(page.locator("#feed-state")).to_have_text("live")
    pipeline = admin.redis.pipeline(transaction=False)
    for n in range(10_000):
        pipeline.xadd(AppKeys("shop").events, event("shop", f"many-{n}").to_fields())
    pipeline.execute()
    expect(page.locator("#rows tr").first).to_contain_text("many-9999", timeout=60_000)
    assert page.locator("#rows tr").count() == 300
    page.keyboard.press("p")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")


def test_a_paused_feed_holds_what_comes_and_keys_move_through_it(
    admin: AdminClient, page: Page
) -> None:
    page.goto("/console?text=held-")
    expect(page.locator("#feed-state")).to_have_text("live")
    page.keyboard.press("p")
    admin.receiver.post(admin.keys.token(sid="held-1"))
    expect(page.locator("#feed-state")).to_contain_text("waiting")
    assert page.locator("#rows tr").count() == 0
    page.keyboard.press("p")
    expect(page.locator("#rows tr").first).to_contain_text("held-1")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/story?**")
    expect(page.locator("main")).to_contain_text("held-1")


def test_a_story_says_not_yet_and_completes_by_itself(admin: AdminClient, page: Page) -> None:
    admin.receiver.post(admin.keys.token(sid="story-1", aud="news-web"))
    page.goto(f"/console/story?sid=story-1&sub=alice&iss={admin.issuer}")
    expect(page.locator("#live")).to_contain_text("Not yet")
    expect(page.locator("#live")).to_contain_text("Not reporting")
    keys = AppKeys("news")
    entry = admin.redis.xrevrange(keys.events, count=1)[0][0]
    add_receipt(admin, "news", entry, 0.1)
    expect(page.locator("#live")).to_contain_text("Complete")


def test_a_pasted_token_is_judged_and_stays_nowhere(admin: AdminClient, page: Page) -> None:
    token = admin.keys.token(aud="shop-web-2")
    page.goto("/console/explain")
    page.fill("#token", token)
    page.click("main button")
    expect(page.locator("main")).to_contain_text("aud_unknown")
    assert token not in page.content()
    assert "token" not in page.url
    assert token not in admin.receiver.log
    page.fill("#token", admin.keys.token())
    page.click("main button")
    expect(page.locator("main")).to_contain_text("Accepted")
    page.goto("/console/search")
    page.fill("#token", admin.keys.token(sid="pasted", events={}))
    page.click("text=Read and find")
    page.wait_for_url("**/console/story?**")
    expect(page.locator("main")).to_contain_text("was not verified")


def test_who_signs_out_elsewhere_is_signed_out_here(page: Page) -> None:
    page.goto("/console")
    expect(page.locator("#feed-state")).to_have_text("live")
    other = page.context.new_page()
    other.goto("/console/health")
    other.click("text=Sign out")
    other.wait_for_url("**/console/sign-in")
    page.wait_for_url("**/console/sign-in")
