"""What a page that looks again leaves alone, when it stops, and links that hold any id."""

from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from backchannel_logout import AppKeys
from tests.admin.api_stage import ApiScene
from tests.console.browser import faults_of_looks
from tests.console.filled import add_receipt
from tests.support.listening import event
from tests.support.provider import ABSENT

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


def test_a_selection_survives_a_change_beside_it(scene: ApiScene, page: Page) -> None:
    scene.receiver.post(scene.keys.token(sid="kept-selection", aud="news-web"))
    page.goto(f"/console/story?sid=kept-selection&iss={scene.issuer}")
    page.evaluate(SELECT, "#app-1")
    expect(page.locator("#live")).to_contain_text("Nobody reads")
    entry = scene.redis.xrevrange(AppKeys("news").events, count=1)[0][0]
    add_receipt(scene, "news", entry, 0.1)
    expect(page.locator("#live")).to_contain_text("Complete")
    assert page.evaluate("String(getSelection())").strip() == "news"


def test_a_selection_survives_the_refreshes_of_a_page_whose_ages_change(
    scene: ApiScene, page: Page
) -> None:
    scene.receiver.post(scene.keys.token())
    page.goto("/console/apps")
    page.evaluate(SELECT, "#a-2")
    with page.expect_response("**/console/apps"):
        pass
    with page.expect_response("**/console/apps"):
        pass
    assert page.evaluate("String(getSelection())").strip() == "shop"


def test_a_story_that_does_not_change_is_asked_for_ever_more_seldom_and_then_no_more(
    scene: ApiScene, page: Page
) -> None:
    scene.receiver.post(scene.keys.token(sid="never-complete", aud="news-web"))
    page.clock.install()
    seen = count_requests(page, "/console/story")
    page.goto(f"/console/story?sid=never-complete&iss={scene.issuer}")
    expect(page.locator("#live")).to_contain_text("is read by nobody now")
    stopped = page.locator("#stopped")
    expect(stopped).to_be_hidden()
    # Ten minutes of the page's clock, one second at a time: each answer comes in real time.
    for _ in range(40):
        if stopped.is_visible():
            break
        page.clock.fast_forward(31_000)
        page.wait_for_timeout(50)
    expect(stopped).to_be_visible()
    expect(stopped).to_contain_text("Updates have stopped")
    asked = len(seen)
    assert 5 < asked < 40
    page.clock.fast_forward(120_000)
    page.wait_for_timeout(300)
    assert len(seen) == asked
    stopped.get_by_role("link").click()
    expect(stopped).to_be_hidden()


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
    live: bool, sid: str, scene: ApiScene, page: Page
) -> None:
    page.goto("/console?kind=session")
    expect(page.locator("#feed-state")).to_have_text("live")
    assert scene.receiver.post(scene.keys.token(sid=sid, sub=ABSENT)).status_code == 200
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
    expect(page.locator("#live")).to_contain_text("Dead is what logged in up to")
    shown = page.locator(".facts dd.id").nth(1)
    assert shown.evaluate(whole) == sid


def test_what_nobody_would_see_in_an_id_is_named(scene: ApiScene, page: Page) -> None:
    scene.receiver.post(scene.keys.token(sid="exe.gnp\u202e txt", sub=ABSENT))
    page.goto(f"/console/story?sid=exe.gnp%E2%80%AE%20txt&iss={scene.issuer}")
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
        older = page.get_by_role("link", name="Older ones")
        if not older.count():
            return seen
        page.goto(older.get_attribute("href") or "")


def older(page: Page) -> None:
    page.get_by_role("link", name="Older ones").click()
    page.wait_for_url("**before=**")


def test_lists_lead_to_what_is_older(scene: ApiScene, page: Page) -> None:
    keys = AppKeys("news")
    pipeline = scene.redis.pipeline(transaction=False)
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
    expect(page.locator("main")).to_contain_text("Here are 100; there are older ones.")
    older(page)
    assert page.locator("article").count() >= 30
    page.goto("/console/health")
    for n in range(60):
        scene.redis.xadd("bcl:v1:audit", {"at": "1.0", "act": "session.end", "who": f"who-{n}"})
    page.reload()
    older(page)
    expect(page.locator("main")).to_contain_text("who-9")


def test_one_logout_in_two_apps_is_not_parted_at_the_end_of_a_page(
    scene: ApiScene, page: Page
) -> None:
    for n in range(70):
        entry = f"{1_700_000_000_000 + n}-0"
        for app in ("shop", "news"):
            keys = AppKeys(app)
            if n == 0:
                scene.redis.xtrim(keys.events, maxlen=0, approximate=False)
                scene.redis.delete(keys.events)
            fields = event(app, f"both-{n}").to_fields()
            scene.redis.xadd(keys.events, fields, id=entry)
    page.goto("/console?text=both-")
    seen = every_whom(page)
    assert sorted(seen) == sorted(f"both-{n}" for n in range(70) for _ in range(2))


def test_a_filter_that_nothing_can_have_is_said(page: Page) -> None:
    page.goto("/console?kind=bogus")
    expect(page.get_by_role("alert")).to_have_text("There is no kind of this name.")
    assert page.locator("tbody tr").count() == 0


def test_of_a_user_with_many_logouts_older_ones_are_titles_that_stay_open(
    scene: ApiScene, page: Page
) -> None:
    pipeline = scene.redis.pipeline(transaction=False)
    for n in range(60):
        one = replace(event("shop", f"many-{n}"), sub="user-many", iss=scene.issuer)
        pipeline.xadd(AppKeys("shop").events, one.to_fields())
    pipeline.execute()
    page.goto(f"/console/story?sub=user-many&iss={scene.issuer}")
    expect(page.locator("#live")).to_contain_text("40 older events")
    assert page.locator("#live .timeline").count() == 20
    page.click("text=40 older events")
    with page.expect_response("**/console/story?**"):
        pass
    assert page.locator("#live details").evaluate("(one) => one.open"), "it stays open"
    assert page.evaluate("document.activeElement.nodeName") == "SUMMARY", "it keeps the focus"
