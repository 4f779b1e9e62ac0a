"""Pages never show a false "complete", "alive", "accepted" or all-green."""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from backchannel_logout import AppKeys, Outcome, Reader, ReaderKind, Receipt
from tests.admin.api_fixture import TOKEN, AdminClient, admin_client
from tests.console.browser import faults_of_looks, open_page, sign_in
from tests.console.sample_data import add_receipt
from tests.support.providers.provider import ABSENT
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow

SENTENCE = "#live [role=status]"


@pytest.fixture(autouse=True)
def _well(admin: AdminClient) -> Iterator[None]:
    yield
    admin.keys.mode = "ok"


def story(page: Page, **members: str) -> None:
    page.goto("/console/search")
    page.select_option("#iss", index=0)
    for name, value in members.items():
        page.fill(f"#{name}", value)
    page.click("text=Find")
    page.wait_for_url("**/console/story?**")


def api(admin: AdminClient, sid: str, **members: str) -> str:
    """The API's conclusion, which is the page's."""
    history = admin.get("/revocations", params={"sid": sid, **members}).json()
    conclusion: str = history["conclusion"]
    return conclusion


def event_of(admin: AdminClient, app: str, sid: str) -> str:
    """The id of the event about the session; events of other tests may be newer. A logout that
    Redis was slow to take is there later than its answer."""

    def ids() -> list[str]:
        entries = admin.redis.xrevrange(AppKeys(app).events)
        return [str(entry) for entry, fields in entries if fields.get("sid") == sid]

    wait_for(ids, f"there is an event about {sid!r}", admin.receiver)
    return ids()[0]


def test_a_listener_that_gave_it_up_is_not_complete(admin: AdminClient, page: Page) -> None:
    assert admin.receiver.post(admin.keys.token(sid="given-up")).status_code == 200
    entry = event_of(admin, "shop", "given-up")
    keys = AppKeys("shop")
    dead = Receipt(event=entry, listener="mail", reader="m", seconds=9.0, outcome=Outcome.DEAD)
    admin.redis.xadd(keys.receipts, dead.to_fields())
    letter = {"dl_event": entry, "dl_listener": "mail", "dl_tries": "2", "dl_error": "KeyError"}
    admin.redis.xadd(keys.dead_letters, letter)
    story(page, sid="given-up")
    expect(page.locator(SENTENCE)).to_contain_text("a listener has given it up")
    expect(page.locator("#live")).not_to_contain_text("Complete:")
    expect(page.locator("#app-2 + p .pill")).to_have_class("pill bad")
    assert api(admin, "given-up") == "given_up"


def test_a_session_whose_token_waits_for_keys_says_so_and_completes_when_they_come(
    admin: AdminClient, page: Page
) -> None:
    """Also where an older logout of it is complete."""
    assert admin.receiver.post(admin.keys.token(sid="waits")).status_code == 200
    add_receipt(admin, "shop", event_of(admin, "shop", "waits"), 0.1)
    story(page, sid="waits")
    expect(page.locator(SENTENCE)).to_contain_text("Complete: ")
    cutoff = int(admin.redis.get(AppKeys("shop").sid(admin.issuer, "waits")))
    wait_for(lambda: time.time() > cutoff + 1, "the marker's second has passed", admin.receiver)
    admin.keys.mode = "500"
    answer = admin.receiver.post(admin.keys.token(sid="waits", header={"kid": "not-yet"}))
    assert answer.status_code == 503
    admin.wait_for_refusal(answer)
    page.reload()
    expect(page.locator(SENTENCE)).to_contain_text("waits for the provider's keys")
    expect(page.locator("#not-applied")).to_be_visible()
    assert not faults_of_looks(page, "story-waits")
    assert api(admin, "waits") == "waiting_for_keys"


def test_a_marker_older_than_a_refused_token_is_not_plainly_dead(
    admin: AdminClient, page: Page
) -> None:
    assert admin.receiver.post(admin.keys.token(sid="refused")).status_code == 200
    add_receipt(admin, "shop", event_of(admin, "shop", "refused"), 0.1)
    cutoff = int(admin.redis.get(AppKeys("shop").sid(admin.issuer, "refused")))
    old = admin.keys.token(sid="refused", iat=int(time.time()) - 7200)
    answer = admin.receiver.post(old)
    assert answer.status_code == 400
    refusal = admin.wait_for_refusal(answer)
    # It came after the marker's second has passed.
    later = {"at": f"{cutoff + 2:.3f}", "reason": "iat_old", "iss": admin.issuer}
    admin.redis.xadd("bcl:v1:refused", later | {"sid_hash": refusal["sid_hash"]})
    story(page, sid="refused")
    expect(page.locator(SENTENCE)).to_contain_text("was refused, and nothing has ended it since")
    verdict = page.locator("#app-2 + p .pill")
    expect(verdict).to_contain_text("a newer token about it ended nothing")
    expect(verdict).to_have_class("pill wait")
    page.click("#live >> text=What to do")
    expect(page.locator("main")).to_contain_text("iat_old")
    assert page.locator("article").count() == 1, "this refusal, and no other"
    assert api(admin, "refused") == "refused"


def test_a_mistyped_id_is_not_alive(admin: AdminClient, page: Page) -> None:
    assert admin.receiver.post(admin.keys.token(sid="Right-One", sub=ABSENT)).status_code == 200
    story(page, sid="right-one")
    expect(page.locator(SENTENCE)).to_contain_text("Nothing is known of this id")
    expect(page.locator("#live")).not_to_contain_text("Alive")
    assert api(admin, "right-one") == "nothing_known"
    story(page, sid="  Right-One ")  # as it is pasted
    expect(page.locator("#live")).to_contain_text("Dead: every login up to")


def test_an_empty_form_asks_for_an_id(page: Page) -> None:
    page.goto("/console/search")
    page.click("text=Find")
    expect(page.get_by_role("alert")).to_contain_text("Enter a session id or a user")
    assert not faults_of_looks(page, "search-empty")
    page.goto("/console/story?sid=&sub=")
    expect(page.get_by_role("alert")).to_contain_text("Enter a session id or a user")


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "iso", "as shown"])
def test_a_login_is_understood_as_logs_and_people_write_it(
    form: str, admin: AdminClient, page: Page
) -> None:
    assert admin.receiver.post(admin.keys.token(sid="login-at")).status_code == 200
    login = int(time.time()) - 60
    said = {
        "seconds": str(login),
        "milliseconds": f"{login}123",
        "iso": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(login)),
        "as shown": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(login)),
    }[form]
    story(page, sid="login-at", login_at=said)
    expect(page.locator("#live")).to_contain_text("Dead: ended at")
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(login))
    expect(page.locator(".facts")).to_contain_text(shown)


def test_what_is_no_time_is_said_with_what_is(admin: AdminClient, page: Page) -> None:
    story(page, sid="login-at", login_at="yesterday")
    expect(page.get_by_role("alert")).to_contain_text("login_at is not a time: epoch seconds or")
    answer = admin.get("/revocations", params={"sid": "a", "login_at": "yesterday"})
    assert "login_at is not a time: epoch seconds or" in answer.json()["error_description"]


def test_an_old_token_would_be_refused_now(admin: AdminClient, page: Page) -> None:
    page.goto("/console/explain")
    page.fill("#token", admin.keys.token(iat=int(time.time()) - 7200, exp=ABSENT))
    page.click("main button")
    headline = page.get_by_role("alert")
    expect(headline).to_contain_text("It would be refused now: 400: iat_old; it was valid at 20")
    expect(page.locator("main")).not_to_contain_text("Accepted")


OTHER = "http://127.0.0.1:1/op"

TWO_ISSUERS = f"""
[[issuers]]
issuer = "{OTHER}"
clients = [{{client_id = "mail-web", app = "mail"}}]
"""


@pytest.fixture(scope="module")
def two_issuers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminClient]:
    """One of them has no keys."""
    with admin_client(tmp_path_factory.mktemp("two"), TWO_ISSUERS) as running:
        yield running


@pytest.fixture
def other(two_issuers: AdminClient, browser: Browser) -> Iterator[Page]:
    with open_page(browser, two_issuers.receiver.admin_url) as opened:
        sign_in(opened, TOKEN)
        yield opened


def test_without_an_issuer_all_are_looked_through(two_issuers: AdminClient, other: Page) -> None:
    assert two_issuers.receiver.post(two_issuers.keys.token(sid="whose")).status_code == 200
    other.goto("/console/search")
    expect(other.locator("#iss")).to_have_value("")
    story(other, sid="whose")
    expect(other.locator(".facts")).to_contain_text(two_issuers.issuer)
    expect(other.locator("#live")).to_contain_text("Dead: every login up to")
    story(other, sid="nobody-s")
    expect(other.locator("main")).to_contain_text("Nothing is known of this id")
    expect(other.locator("main")).to_contain_text("Every configured issuer was searched")


def test_the_wrong_issuer_is_not_alive_and_the_right_one_is_named(
    two_issuers: AdminClient, other: Page
) -> None:
    assert two_issuers.receiver.post(two_issuers.keys.token(sid="theirs")).status_code == 200
    other.goto("/console/search")
    other.select_option("#iss", OTHER)
    other.fill("#sid", "theirs")
    other.click("text=Find")
    expect(other.locator(SENTENCE)).to_contain_text("Nothing is known of this id")
    expect(other.locator("#live")).to_contain_text("Another issuer knows this id")
    other.click(f"#live >> text={two_issuers.issuer}")
    expect(other.locator("#live")).to_contain_text("Dead: every login up to")


def test_an_id_that_several_issuers_know_is_a_choice(two_issuers: AdminClient, other: Page) -> None:
    for iss, app in ((two_issuers.issuer, "shop"), (OTHER, "mail")):
        two_issuers.redis.set(AppKeys(app).sid(iss, "both"), int(time.time()), ex=3600)
    story(other, sid="both")
    expect(other.locator("main")).to_contain_text("Several issuers know this id")
    assert not faults_of_looks(other, "story-several")
    other.click(f"main >> text={OTHER}")
    expect(other.locator("#app-1")).to_have_text("mail")


def test_health_shows_what_status_finds(two_issuers: AdminClient, other: Page) -> None:
    """A provider without keys, a listener that is dead, and a dead letter."""
    keys = AppKeys("mail")
    letter = {"dl_event": "1-0", "dl_listener": "mail", "dl_tries": "2", "dl_error": "KeyError"}
    two_issuers.redis.xadd(keys.dead_letters, letter)
    dead = Reader(name="m", kind=ReaderKind.GROUP, at=time.time() - 120, position=None)
    two_issuers.redis.hset(keys.readers, "m", dead.to_json())
    other.goto("/console/health")
    for said in (f"issuer {OTHER}", "0 keys", "1 reader silent", "1 dead letter, the last"):
        expect(other.locator(".trouble")).to_contain_text(said)
    two_issuers.redis.delete(keys.dead_letters)
    expect(other.locator(".trouble")).not_to_contain_text("dead letter")


def test_a_login_after_the_logout_is_alive_and_says_why(admin: AdminClient, page: Page) -> None:
    assert admin.receiver.post(admin.keys.token(sid="again")).status_code == 200
    story(page, sid="again", login_at=str(int(time.time()) + 5))
    expect(page.locator(SENTENCE)).to_contain_text("this login is later than every logout of it")


def test_an_app_that_nobody_reads_is_not_complete(admin: AdminClient, page: Page) -> None:
    assert admin.receiver.post(admin.keys.token(sid="unread", aud="news-web")).status_code == 200
    story(page, sid="unread")
    expect(page.locator(SENTENCE)).to_contain_text("has no active reader")
    assert api(admin, "unread") == "not_read"


def test_an_app_that_never_reported_is_not_wrong_and_one_without_sids_is_told_what_to_change(
    admin: AdminClient, page: Page
) -> None:
    assert admin.receiver.post(admin.keys.token(sid="gone", aud="news-web")).status_code == 200
    page.goto("/console/apps")
    news = page.locator("section", has=page.locator("h2", has_text="news"))
    expect(news.locator(".pill.wait")).to_have_text("not reporting")
    expect(news.locator(".pill.bad")).to_have_count(0)
    expect(news.locator(".note.wait")).to_contain_text("may not write the report")
    iss = admin.keys.issuer
    report = Reader(name="asks", kind=ReaderKind.ASKS, at=time.time() - 7200, sid={iss: False})
    admin.redis.hset(AppKeys("news").readers, report.name, report.to_json())
    page.reload()
    expect(news.locator(".pill.good")).to_have_text("1 asks")
    expect(news).to_contain_text("last query 2 h ago")
    expect(news.locator(".note.wait")).to_contain_text('Set both_claims = "user"')
    admin.redis.delete(AppKeys("news").readers)
