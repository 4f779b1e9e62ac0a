"""Pages that refresh themselves: what they preserve, when they stop, and links with any id."""

from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from backchannel_logout import AppKeys
from tests.admin.api_fixture import AdminClient
from tests.console.browser import faults_of_looks
from tests.console.sample_data import add_receipt
from tests.support.apps.listening import event
from tests.support.providers.provider import ABSENT
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow

SELECT = """(selector) => {
    const range = document.createRange();
    range.selectNodeContents(document.querySelector(selector));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
}"""


def count_requests(page: Page, path: str) -> list[str]:
    seen: list[str] = []
    page.on("request", lambda one: seen.append(one.url) if path in one.url else None)
    return seen


def test_a_selection_survives_a_change_beside_it(admin: AdminClient, page: Page) -> None:
    admin.receiver.post(admin.keys.token(sid="kept-selection", aud="news-web"))
    page.goto(f"/console/story?sid=kept-selection&iss={admin.issuer}")
    page.evaluate(SELECT, "#app-1")
    expect(page.locator("#live")).to_contain_text("Not reporting")
    entry = admin.redis.xrevrange(AppKeys("news").events, count=1)[0][0]
    add_receipt(admin, "news", entry, 0.1)
    expect(page.locator("#live")).to_contain_text("Complete")
    assert page.evaluate("String(getSelection())").strip() == "news"


def test_a_selection_survives_the_refreshes_of_a_page_whose_ages_change(
    admin: AdminClient, page: Page
) -> None:
    admin.receiver.post(admin.keys.token())
    page.goto("/console/apps")
    page.evaluate(SELECT, "#a-2")
    with page.expect_response("**/console/apps"):
        pass
    with page.expect_response("**/console/apps"):
        pass
    assert page.evaluate("String(getSelection())").strip() == "shop"


# The page's own clock must be installed first.
PAUSES = """
    window.pauses = [];
    const real = window.setTimeout;
    window.setTimeout = (run, ms) => { window.pauses.push(ms); return real(run, ms); };
"""

HIDDEN = """(hidden) => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


class Unchanging:
    """The story of a session whose app nobody reads, on a page whose clock the test sets."""

    def __init__(self, admin: AdminClient, page: Page, sid: str) -> None:
        self.page = page
        admin.receiver.post(admin.keys.token(sid=sid, aud="news-web"))
        page.clock.install()
        page.add_init_script(PAUSES)
        self.seen = count_requests(page, "/console/story")
        page.goto(f"/console/story?sid={sid}&iss={admin.issuer}")
        expect(page.locator("#live")).to_contain_text("has no active reader")
        self.stopped = page.locator("#stopped")
        expect(self.stopped).to_be_hidden()

    @property
    def pauses(self) -> list[int]:
        """Of the page until now, in milliseconds; the last is the one until the next look."""
        pauses: list[int] = self.page.evaluate("pauses")
        return pauses

    def look(self, event: Any = "requestfinished") -> None:
        """Let the time of the next look come, and wait until the page has seen its answer."""
        pauses = self.pauses
        with self.page.expect_event(event, lambda one: "/console/story" in one.url):
            self.page.clock.fast_forward(pauses[-1])
        wait_for(
            lambda: len(self.pauses) > len(pauses) or self.stopped.is_visible(), "it has looked"
        )

    def look_until(self, seconds: float) -> None:
        """Look for so long, by the page's clock, or until the page stops."""
        passed = 0
        while passed < seconds * 1000 and self.stopped.is_hidden():
            passed += self.pauses[-1]
            self.look()


def test_a_story_that_does_not_change_is_asked_for_ever_more_seldom_and_then_no_more(
    admin: AdminClient, page: Page
) -> None:
    story = Unchanging(admin, page, "never-complete")
    story.look_until(3600)
    expect(story.stopped).to_be_visible()
    expect(story.stopped).to_contain_text("Updates have stopped")
    pauses, asked = story.pauses, len(story.seen)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (1000, 30_000)
    page.clock.fast_forward(120_000)
    assert (story.pauses, len(story.seen)) == (pauses, asked)
    story.stopped.get_by_role("link").click()
    expect(story.stopped).to_be_hidden()


def test_a_story_in_a_hidden_tab_does_not_stop_and_looks_when_it_is_shown_again(
    admin: AdminClient, page: Page
) -> None:
    story = Unchanging(admin, page, "hidden-tab")
    story.look_until(300)
    page.evaluate(HIDDEN, True)
    asked = len(story.seen)
    for _ in range(30):
        page.clock.fast_forward(31_000)
    assert len(story.seen) == asked
    expect(story.stopped).to_be_hidden()
    entry = admin.redis.xrevrange(AppKeys("news").events, count=1)[0][0]
    add_receipt(admin, "news", entry, 0.1)
    page.evaluate(HIDDEN, False)
    expect(page.locator("#live")).to_contain_text("Complete")
    expect(story.stopped).to_be_hidden()


def test_the_time_in_a_hidden_tab_does_not_count(admin: AdminClient, page: Page) -> None:
    story = Unchanging(admin, page, "shown-again")
    story.look_until(300)
    page.evaluate(HIDDEN, True)
    page.clock.fast_forward(3_600_000)
    looks = len(story.pauses)
    page.evaluate(HIDDEN, False)
    wait_for(lambda: len(story.pauses) > looks, "it has looked at once")
    assert story.pauses[-1] == 1000, "as often as at first"
    story.look_until(500)
    expect(story.stopped).to_be_hidden()
    story.look_until(3600)
    expect(story.stopped).to_be_visible()
    page.evaluate(HIDDEN, True)
    page.evaluate(HIDDEN, False)
    expect(story.stopped).to_be_hidden()


def test_looks_that_fail_stop_no_story(admin: AdminClient, page: Page) -> None:
    """While the service is away nobody knows whether something has changed."""
    story = Unchanging(admin, page, "service-away")
    page.route("**/console/story?**", lambda route: route.abort())
    for _ in range(35):
        story.look("requestfailed")
    expect(story.stopped).to_be_hidden()
    page.unroute("**/console/story?**")
    story.look_until(500)
    expect(story.stopped).to_be_hidden()
    story.look_until(3600)
    expect(story.stopped).to_be_visible()


IDS = {
    "a family, joined": "👩‍👩‍👧",
    "right to left override": "exe.gnp\u202e txt",
    "zero width space": "ali\u200bce",
    "a newline": "two\nlines",
    "a tab and blanks": " \ta b ",
    "Arabic": "مرحبا",
    "markup": "<b>&amp;\"'",
    "slashes and signs": "a/b?c=d&e=f#g%2F+h",
    "255 characters": "x" * 255,
}


@pytest.mark.parametrize("sid", IDS.values(), ids=IDS)
@pytest.mark.parametrize("live", [True, False], ids=["live row", "row of the page"])
def test_the_feed_s_link_leads_to_the_story_of_any_id(
    live: bool, sid: str, admin: AdminClient, page: Page
) -> None:
    page.goto("/console?kind=session")
    expect(page.locator("#feed-state")).to_have_text("live")
    assert admin.receiver.post(admin.keys.token(sid=sid, sub=ABSENT)).status_code == 200
    link = page.locator("#rows tr a").first
    whole = "(one) => one.textContent"
    page.wait_for_function(
        "(sid) => document.querySelector('#rows tr a')?.textContent === sid", arg=sid
    )
    if not live:
        page.reload()
    assert link.evaluate(whole) == sid, "copied, it is what it was"
    assert link.locator("bdi").count() >= 1
    link.click()
    page.wait_for_url("**/console/story?**")
    expect(page.locator("#live")).to_contain_text("Dead: every login up to")
    shown = page.locator(".facts dd.id").nth(1)
    assert shown.evaluate(whole) == sid


def test_what_nobody_would_see_in_an_id_is_named(admin: AdminClient, page: Page) -> None:
    admin.receiver.post(admin.keys.token(sid="exe.gnp\u202e txt", sub=ABSENT))
    page.goto(f"/console/story?sid=exe.gnp%E2%80%AE%20txt&iss={admin.issuer}")
    named = page.locator(".facts .ctl")
    assert named.get_attribute("data-name") == "U+202E"
    before: Any = named.evaluate("(one) => getComputedStyle(one, '::before').content")
    assert before == '"U+202E"'
    assert not faults_of_looks(page, "story-marks")


def every_whom(page: Page) -> list[str]:
    """Of all pages of the feed, from this one back."""
    seen: list[str] = []
    while True:
        seen += page.locator("tbody tr td.id:nth-child(3)").all_inner_texts()
        older = page.get_by_role("link", name="Older entries")
        if not older.count():
            return seen
        page.goto(older.get_attribute("href") or "")


def older(page: Page) -> None:
    page.get_by_role("link", name="Older entries").click()
    page.wait_for_url("**before=**")


def test_lists_lead_to_what_is_older(admin: AdminClient, page: Page) -> None:
    keys = AppKeys("news")
    pipeline = admin.redis.pipeline(transaction=False)
    for n in range(130):
        pipeline.xadd(keys.events, event("news", f"older-{n}").to_fields())
        fields = {"at": "1.0", "reason": "nonce", "iss": f"https://older-{n}.example"}
        pipeline.xadd("bcl:v1:refused", fields)
    pipeline.execute()
    page.goto("/console?text=older-&app=news")
    seen = every_whom(page)
    assert seen == [f"older-{n}" for n in range(129, -1, -1)]
    page.click("text=Back to the newest")
    expect(page.locator("#feed-state")).to_have_text("live")
    page.goto("/console/refusals?reason=nonce")
    assert page.locator("article").count() == 100
    expect(page.locator("main")).to_contain_text("The newest 100 are shown; there are older ones.")
    older(page)
    assert page.locator("article").count() >= 30
    page.goto("/console/health")
    for n in range(60):
        admin.redis.xadd("bcl:v1:audit", {"at": "1.0", "act": "session.end", "who": f"who-{n}"})
    page.reload()
    older(page)
    expect(page.locator("main")).to_contain_text("who-9")


def test_one_logout_in_two_apps_is_not_parted_at_the_end_of_a_page(
    admin: AdminClient, page: Page
) -> None:
    for n in range(70):
        entry = f"{1_700_000_000_000 + n}-0"
        for app in ("shop", "news"):
            keys = AppKeys(app)
            if n == 0:
                admin.redis.xtrim(keys.events, maxlen=0, approximate=False)
                admin.redis.delete(keys.events)
            fields = event(app, f"both-{n}").to_fields()
            admin.redis.xadd(keys.events, fields, id=entry)
    page.goto("/console?text=both-")
    seen = every_whom(page)
    assert sorted(seen) == sorted(f"both-{n}" for n in range(70) for _ in range(2))


def test_a_filter_that_nothing_can_have_is_said(page: Page) -> None:
    page.goto("/console?kind=bogus")
    expect(page.get_by_role("alert")).to_have_text("There is no such kind.")
    assert page.locator("tbody tr").count() == 0


def test_of_a_user_with_many_logouts_older_ones_are_titles_that_stay_open(
    admin: AdminClient, page: Page
) -> None:
    pipeline = admin.redis.pipeline(transaction=False)
    for n in range(60):
        one = replace(event("shop", f"many-{n}"), sub="user-many", iss=admin.issuer)
        pipeline.xadd(AppKeys("shop").events, one.to_fields())
    pipeline.execute()
    page.goto(f"/console/story?sub=user-many&iss={admin.issuer}")
    expect(page.locator("#live")).to_contain_text("40 older events")
    assert page.locator("#live .timeline").count() == 20
    page.click("text=40 older events")
    with page.expect_response("**/console/story?**"):
        pass
    assert page.locator("#live details").evaluate("(one) => one.open"), "it stays open"
    assert page.evaluate("document.activeElement.nodeName") == "SUMMARY", "it keeps the focus"
