"""The console in a real browser: each view and its states, on a desk and on a phone."""

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from backchannel_logout import AppKeys, Outcome, Receipt
from tests.admin.api_stage import ALICE, TOKEN, ApiScene
from tests.console.browser import (
    DESKTOP,
    PHONE,
    barriers,
    keep_picture,
    open_page,
    overflows,
    sign_in,
)
from tests.support.listening import event
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow

VIEWS = ["", "/search", "/refusals", "/explain", "/issuers", "/apps", "/sessions", "/health"]

LOOKS = [("desk", DESKTOP, "light"), ("dark", DESKTOP, "dark"), ("phone", PHONE, "light")]


def add_receipt(scene: ApiScene, app: str, entry: str, seconds: float) -> None:
    """What a listener says when it has handled an event."""
    receipt = Receipt(
        event=entry, listener="web", reader="web-1", seconds=seconds, outcome=Outcome.DONE
    )
    scene.redis.xadd(AppKeys(app).receipts, receipt.to_fields())


def fill(scene: ApiScene) -> None:
    """Something of everything: logouts, refusals, receipts, a dead letter, sessions."""
    keys = AppKeys("shop")
    if scene.redis.xlen(keys.receipts):
        return
    assert scene.receiver.post(scene.keys.token()).status_code == 200
    assert scene.receiver.post(scene.keys.token(aud="shop-web-2")).status_code == 400
    assert scene.receiver.post(scene.keys.token(iss="https://other.example/")).status_code == 400
    assert scene.receiver.post(scene.keys.token(exp=100)).status_code == 400
    entry = scene.redis.xrevrange(keys.events, count=1)[0][0]
    for n in range(30):
        add_receipt(scene, "shop", entry, 0.05 + n % 7 / 20)
    wait_for(lambda: scene.redis.xlen("bcl:v1:refused") >= 3, "refusals are written")


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look[0])
def test_each_view_is_without_barriers_and_fits(
    scene: ApiScene, browser: Browser, look: tuple[str, tuple[int, int], str]
) -> None:
    name, size, scheme = look
    fill(scene)
    scene.tenant.add(ALICE, f"session-{name}")
    with open_page(browser, scene.receiver.admin_url, size, scheme) as page:
        page.goto("/console")
        found = {"sign-in": barriers(page)}
        keep_picture(page, f"{name}-sign-in")
        sign_in(page, TOKEN)
        views = [
            *VIEWS,
            f"/story?sid=sid-1&sub=alice&iss={scene.issuer}",
            f"/sessions?user={ALICE}",
        ]
        for view in views:
            page.goto("/console" + view)
            if not view:
                expect(page.locator("#feed-state")).to_have_text("live")
            shown = view.strip("/").partition("?")[0] or "feed"
            shown += "-user" if "user=" in view else ""
            keep_picture(page, f"{name}-{shown}")
            found[shown] = [*barriers(page), *(["too wide"] if overflows(page) else [])]
    assert not any(found.values()), json.dumps(found, indent=1)


@pytest.fixture
def page(scene: ApiScene, browser: Browser) -> Any:
    with open_page(browser, scene.receiver.admin_url) as opened:
        sign_in(opened, TOKEN)
        yield opened


def test_the_first_view_is_under_a_hundred_kilobytes(scene: ApiScene, page: Page) -> None:
    fill(scene)
    sizes: list[int] = []
    page.on("response", lambda one: sizes.append(
        0 if "feed" in one.url else len(one.body()) + sum(len(k) + len(v) + 4
            for k, v in one.headers.items())))  # fmt: skip
    page.goto("/console")
    expect(page.locator("#feed-state")).to_have_text("live")
    assert len(sizes) >= 3
    assert sum(sizes) < 100_000


def test_a_logout_and_a_refusal_come_into_the_feed_by_themselves(
    scene: ApiScene, page: Page
) -> None:
    page.goto("/console?text=seen-live")
    expect(page.locator("#feed-state")).to_have_text("live")
    expect(page.locator("#nothing")).to_be_visible()
    scene.receiver.post(scene.keys.token(sid="another"))
    scene.receiver.post(scene.keys.token(sid="seen-live"))
    expect(page.locator("#rows tr")).to_have_count(1)
    page.goto("/console?kind=refusal&reason=nonce")
    expect(page.locator("#feed-state")).to_have_text("live")
    scene.receiver.post(scene.keys.token(nonce="n"))
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(page.locator("#rows")).to_contain_text("nonce")


def test_ten_thousand_events_leave_some_hundred_rows_and_a_page_that_answers(
    scene: ApiScene, page: Page
) -> None:
    page.goto("/console")
    expect(page.locator("#feed-state")).to_have_text("live")
    pipeline = scene.redis.pipeline(transaction=False)
    for n in range(10_000):
        pipeline.xadd(AppKeys("shop").events, event("shop", f"many-{n}").to_fields())
    pipeline.execute()
    expect(page.locator("#rows tr").first).to_contain_text("many-9999", timeout=60_000)
    assert page.locator("#rows tr").count() == 300
    page.keyboard.press("p")
    expect(page.locator("#pause")).to_have_attribute("aria-pressed", "true")


def test_a_paused_feed_holds_what_comes_and_keys_move_through_it(
    scene: ApiScene, page: Page
) -> None:
    page.goto("/console?text=held-")
    expect(page.locator("#feed-state")).to_have_text("live")
    page.keyboard.press("p")
    scene.receiver.post(scene.keys.token(sid="held-1"))
    expect(page.locator("#feed-state")).to_contain_text("waiting")
    assert page.locator("#rows tr").count() == 0
    page.keyboard.press("p")
    expect(page.locator("#rows tr").first).to_contain_text("held-1")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/story?**")
    expect(page.locator("main")).to_contain_text("held-1")


def test_a_story_says_not_yet_and_completes_by_itself(scene: ApiScene, page: Page) -> None:
    scene.receiver.post(scene.keys.token(sid="story-1", aud="news-web"))
    page.goto(f"/console/story?sid=story-1&sub=alice&iss={scene.issuer}")
    expect(page.locator("#live")).to_contain_text("Not yet")
    expect(page.locator("#live")).to_contain_text("Nobody reads")
    keep_picture(page, "desk-story-not-yet")
    keys = AppKeys("news")
    entry = scene.redis.xrevrange(keys.events, count=1)[0][0]
    add_receipt(scene, "news", entry, 0.1)
    expect(page.locator("#live")).to_contain_text("Complete")


def test_a_pasted_token_is_judged_and_stays_nowhere(scene: ApiScene, page: Page) -> None:
    token = scene.keys.token(aud="shop-web-2")
    page.goto("/console/explain")
    page.fill("#token", token)
    page.click("main button")
    expect(page.locator("main")).to_contain_text("aud_unknown")
    keep_picture(page, "desk-explain-refused")
    assert not barriers(page)
    assert token not in page.content()
    assert "token" not in page.url
    assert token not in scene.receiver.log
    page.fill("#token", scene.keys.token())
    page.click("main button")
    expect(page.locator("main")).to_contain_text("Accepted")
    page.goto("/console/search")
    page.fill("#token", scene.keys.token(sid="pasted", events={}))
    page.click("text=Read and find")
    page.wait_for_url("**/console/story?**")
    expect(page.locator("main")).to_contain_text("nobody has verified")


def test_a_session_is_ended_and_its_states_move(scene: ApiScene, page: Page) -> None:
    scene.tenant.add("auth0|bob", "bobs-phone")
    scene.tenant.add("auth0|bob", "bobs-desk")
    page.goto("/console/sessions?user=auth0|bob")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.click("[aria-label='End bobs-phone']")
    page.wait_for_url("**/console/sessions/ending?**")
    expect(page.locator("#live")).to_contain_text("confirmed")
    keep_picture(page, "desk-ending")
    assert not barriers(page)
    assert "bobs-desk" in scene.tenant.sessions
    (done,) = [one for one in scene.audit() if one["act"] == "session.end"]
    assert done["who"] == "admin_token"
    page.goto("/console/sessions?user=auth0|bob")
    page.check("[name=sure]")
    page.click("text=End all sessions >> nth=-1")
    page.wait_for_url("**/console/sessions/ending?**")
    wait_for(lambda: "bobs-desk" not in scene.tenant.sessions, "the other one has ended")


def test_who_signs_out_elsewhere_is_signed_out_here(page: Page) -> None:
    page.goto("/console")
    expect(page.locator("#feed-state")).to_have_text("live")
    other = page.context.new_page()
    other.goto("/console/health")
    other.click("text=Sign out")
    other.wait_for_url("**/console/sign-in")
    page.wait_for_url("**/console/sign-in")
