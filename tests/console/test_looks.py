"""Each view in each of its states, on a desk and a phone, by day and by night: no barrier for who
sees, reads or clicks otherwise, and nothing beside the window."""

import json
import re

import pytest
from playwright.sync_api import Page, expect

from backchannel_logout import AppKeys
from tests.admin.api_fixture import ALICE, TOKEN, AdminClient
from tests.console.browser import faults_of_looks
from tests.console.sample_data import add_receipt, fill

pytestmark = pytest.mark.slow

# What a page shows people that only programs should see, or that is Markdown.
INTERNAL = re.compile(
    r"`|\bNone\b|\bundefined\b|\[object|NaN|<class|\{'|Standing\.|\bnull\b|\{\w+\}"
)


def faults_of(page: Page, name: str) -> list[str]:
    said = page.locator("body").inner_text()
    return [
        *faults_of_looks(page, name),
        *[f"{name} shows {one.group()}" for one in INTERNAL.finditer(said)],
    ]


def test_the_sign_in(page: Page) -> None:
    page.context.clear_cookies()
    page.goto("/console")
    faults = faults_of(page, "sign-in")
    page.fill("#token", "not the token")
    page.click("main button")
    expect(page.locator("[role=alert]")).to_be_visible()
    faults += faults_of(page, "sign-in-wrong")
    page.fill("#token", TOKEN)
    page.click("main button")
    page.wait_for_url("**/console")
    assert not faults, json.dumps(faults, indent=1)


def test_the_feed_with_rows_without_and_paused(admin: AdminClient, page: Page) -> None:
    fill(admin)
    page.goto("/console")
    expect(page.locator("#feed-state")).to_have_text("live")
    faults = faults_of(page, "feed")
    page.goto("/console?text=nothing-has-this")
    expect(page.locator("#nothing")).to_be_visible()
    faults += faults_of(page, "feed-empty")
    page.goto("/console")
    expect(page.locator("#feed-state")).to_have_text("live")
    page.keyboard.press("p")
    admin.receiver.post(admin.keys.token(sid="held"))
    expect(page.locator("#feed-state")).to_contain_text("1 waiting")
    unreadable = admin.redis.xadd(AppKeys("shop").events, {"v": "9"})
    page.keyboard.press("p")
    expect(page.locator("#rows")).to_contain_text("event of another release")
    faults += faults_of(page, "feed-live-rows")
    admin.redis.xdel(AppKeys("shop").events, unreadable)
    assert not faults, json.dumps(faults, indent=1)


def test_stories(admin: AdminClient, page: Page) -> None:
    fill(admin)
    admin.receiver.post(admin.keys.token(sid="not-yet", aud=["shop-web", "news-web"]))
    who = f"sub=alice&iss={admin.issuer}"
    page.goto(f"/console/story?sid=not-yet&{who}")
    expect(page.locator("#live")).to_contain_text("Not yet")
    faults = faults_of(page, "story-not-yet")
    for app in ("shop", "news"):
        entry = admin.redis.xrevrange(AppKeys(app).events, count=1)[0][0]
        add_receipt(admin, app, entry, 0.125)
    expect(page.locator("#live")).to_contain_text("Complete")
    faults += faults_of(page, "story-complete")
    page.goto(f"/console/story?sid=never-ended&{who}&login_at=1795283041")
    faults += faults_of(page, "story-alive")
    page.goto("/console/search")
    faults += faults_of(page, "search")
    page.fill("#token", admin.keys.token(sid="not-yet", events={}))
    page.click("text=Read and find")
    page.wait_for_url("**/console/story?**")
    faults += faults_of(page, "story-unverified")
    assert not faults, json.dumps(faults, indent=1)


def test_refusals_and_explain(admin: AdminClient, page: Page) -> None:
    fill(admin)
    page.goto("/console/refusals")
    faults = faults_of(page, "refusals")
    for one in page.locator("summary").all():
        one.click()
    faults += faults_of(page, "refusals-open")
    page.goto("/console/refusals?reason=nonce&issuer=https://nobody.example")
    faults += faults_of(page, "refusals-empty")
    page.goto("/console/explain")
    faults += faults_of(page, "explain")
    for name, token in [
        ("refused", admin.keys.token(aud="shop-web-2")),
        ("accepted", admin.keys.token()),
        ("rubbish", "rubbish"),
    ]:
        page.fill("#token", token)
        page.click("main button")
        expect(page.locator("#verdict")).to_be_visible()
        faults += faults_of(page, f"explain-{name}")
    assert not faults, json.dumps(faults, indent=1)


def test_issuers_apps_and_health(admin: AdminClient, page: Page) -> None:
    fill(admin)
    keys = AppKeys("shop")
    entry = admin.redis.xrevrange(keys.events, count=1)[0][0]
    letter = {"dl_event": entry, "dl_listener": "web", "dl_tries": "5", "dl_error": "KeyError"}
    admin.redis.xadd(keys.dead_letters, letter)
    admin.redis.xgroup_create(keys.events, "a-group", "0")
    faults = []
    for view in ("issuers", "apps", "health"):
        page.goto(f"/console/{view}")
        faults += faults_of(page, view)
    admin.keys.mode = "500"
    admin.receiver.post(admin.keys.token(header={"kid": "unknown"}))
    page.goto("/console/issuers")
    expect(page.locator("#live")).to_contain_text("http_500")
    expect(page.locator("#live")).to_contain_text("Tokens waiting for keys")
    faults += faults_of(page, "issuers-away")
    admin.keys.mode = "ok"
    assert not faults, json.dumps(faults, indent=1)


def test_what_is_not_there_and_what_nobody_can_mean(page: Page) -> None:
    page.goto("/console/nothing")
    faults = faults_of(page, "fault-404")
    page.goto("/console/sessions?user=../x")
    faults += faults_of(page, "fault-400")
    assert not faults, json.dumps(faults, indent=1)


def test_sessions_and_their_ends(admin: AdminClient, page: Page) -> None:
    page.goto("/console/sessions")
    faults = faults_of(page, "sessions")
    page.goto("/console/sessions?user=nobody")
    faults += faults_of(page, "sessions-none")
    admin.tenant.add(ALICE, "a-phone", device={"last_user_agent": "Mozilla/5.0 " + "x" * 150})
    admin.tenant.add(ALICE, "a-desk")
    page.goto(f"/console/sessions?user={ALICE}")
    faults += faults_of(page, "sessions-user")
    admin.tenant.scopes = {"read:sessions"}
    page.click("[aria-label='End a-phone']")
    faults += faults_of(page, "sessions-ask")
    page.click("details[open] >> text=End this session")
    page.wait_for_url("**/console/sessions/ending?**")
    expect(page.locator("#live")).to_contain_text("Not done yet")
    faults += faults_of(page, "ending-trouble")
    admin.tenant.scopes = {"read:sessions", "delete:sessions"}
    expect(page.locator("#live h2 .pill")).to_have_text("confirmed", timeout=60_000)
    faults += faults_of(page, "ending-confirmed")
    page.goto("/console/sessions/ending?session=nobody-ended-this")
    faults += faults_of(page, "ending-none")
    assert not faults, json.dumps(faults, indent=1)
