"""`<active-sessions>` while a provider's API is slow, unavailable or rate-limited."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.account.account_fixture import USER_PACE, AccountClient
from tests.browser.visit import PATIENCE, Visit, visit
from tests.support.providers.auth0_api import fault, limited
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow

BROKEN = fault(500, "Internal Server Error", "broken")


@pytest.fixture
def alice(account: AccountClient, browser: Browser, app: str) -> Iterator[Visit]:
    with visit(account, browser, app) as found:
        yield found


def test_a_provider_that_is_down_is_said_and_then_tried_again(alice: Visit) -> None:
    alice.account.tenant.faults.append(BROKEN)
    alice.show()
    expect(alice.alert).to_contain_text("provider does not answer", timeout=PATIENCE)
    expect(alice.rows).to_have_count(0)
    alice.press("Try again")
    expect(alice.rows).to_have_count(2, timeout=PATIENCE)
    expect(alice.alert).to_have_count(0)


def test_a_provider_that_is_down_at_the_sign_out_has_changed_nothing(alice: Visit) -> None:
    alice.listed()
    alice.ask(alice.others[0])
    alice.account.tenant.faults.append(BROKEN)
    alice.sure()
    expect(alice.alert).to_contain_text("provider does not answer", timeout=PATIENCE)
    expect(alice.alert).to_contain_text("Nothing was changed")
    assert alice.is_alive(alice.others[0])
    alice.ask(alice.others[0])
    alice.sure()
    expect(alice.row(alice.others[0])).to_contain_text("Signed out of", timeout=PATIENCE)
    assert not alice.is_alive(alice.others[0])


def test_a_provider_that_never_answers_is_given_up(alice: Visit) -> None:
    alice.account.tenant.faults.append("hang")
    alice.show()
    expect(alice.page.get_by_text("Loading your sessions")).to_be_visible()
    expect(alice.alert).to_contain_text("provider does not answer", timeout=PATIENCE)
    alice.press("Try again")
    expect(alice.rows).to_have_count(2, timeout=PATIENCE)


def test_a_provider_that_takes_its_time_is_waited_for(alice: Visit) -> None:
    alice.listed()
    alice.account.tenant.lag = 3600
    alice.ask(alice.others[0])
    alice.sure()
    row = alice.row(alice.others[0])
    expect(row).to_contain_text("Signed out of 0 of 2 apps", timeout=PATIENCE)
    alice.account.tenant.carry_out_all()
    # The shop asks at each request and has let go; the news is an app that nobody runs here.
    expect(row).to_contain_text("Signed out of 1 of 2 apps", timeout=PATIENCE)
    # Read out by who does not see the row: an element that stays, and says whose progress it is.
    expect(alice.page.get_by_role("status")).to_contain_text(
        "on Android 14: Signed out of 1 of 2 apps"
    )
    assert alice.is_alive(alice.own)
    assert not alice.is_alive(alice.others[0])


@pytest.mark.parametrize("when", ["list", "end"])
def test_a_provider_that_limits_is_said_with_when_to_come_back(alice: Visit, when: str) -> None:
    if when == "end":
        alice.listed()
        alice.ask(alice.others[0])
    alice.account.tenant.faults.append(limited(4))
    alice.sure() if when == "end" else alice.show()
    expect(alice.alert).to_contain_text("Too many requests. Try again in ", timeout=PATIENCE)
    assert alice.is_alive(alice.others[0])
    alice.page.wait_for_timeout(4000)
    alice.press("Try again")
    expect(alice.rows).to_have_count(2, timeout=PATIENCE)
    expect(alice.alert).to_have_count(0)


def test_who_asks_too_often_is_told_to_wait(alice: Visit) -> None:
    alice.listed()
    session = alice.account.session(alice.own)

    def after_too_many(route: Route) -> None:
        """Just before this one: the limit gives back a request every five seconds."""
        for _ in range(1000):
            if alice.account.ask("DELETE", "/nothing", session).status_code == 429:
                break
        route.continue_()

    alice.page.route(f"**/account/sessions/{alice.others[0]}", after_too_many)
    alice.ask(alice.others[0])
    alice.sure()
    expect(alice.alert).to_contain_text("Too many requests. Try again in ")
    assert alice.is_alive(alice.others[0])


def test_a_session_that_had_ended_already_is_said_and_leaves_the_list(alice: Visit) -> None:
    alice.listed()
    del alice.account.tenant.sessions[alice.others[0]]
    alice.ask(alice.others[0])
    alice.sure()
    expect(alice.alert).to_contain_text("had already ended", timeout=PATIENCE)
    expect(alice.rows).to_have_count(1)


def test_where_the_provider_does_not_know_this_session_no_other_is_ended(alice: Visit) -> None:
    alice.listed()
    del alice.account.tenant.sessions[alice.own]
    alice.press("Sign out everywhere else")
    alice.sure()
    expect(alice.alert).to_contain_text("not known to your provider", timeout=PATIENCE)
    assert alice.is_alive(alice.others[0])


def test_a_sign_in_that_ends_while_another_one_does_is_said(alice: Visit) -> None:
    alice.listed()
    alice.account.tenant.lag = 3600
    alice.ask(alice.others[0])
    alice.sure()
    expect(alice.row(alice.others[0])).to_contain_text("Signed out of", timeout=PATIENCE)
    account = alice.account
    assert (
        account.receiver.post(account.keys.token(sid=alice.own, sub=account.user)).status_code
        == 200
    )
    expect(alice.alert).to_contain_text("Your sign-in has ended", timeout=PATIENCE)
    expect(alice.rows).to_have_count(0)


def test_being_offline_is_said(alice: Visit) -> None:
    alice.listed()
    alice.page.context.set_offline(True)
    alice.ask(alice.others[0])
    alice.sure()
    expect(alice.alert).to_contain_text("offline")


def test_while_redis_is_away_nothing_is_blamed_on_the_provider(alice: Visit) -> None:
    alice.listed()
    alice.ask(alice.others[0])
    account, session = alice.account, alice.account.session(alice.own)
    account.redis_server.stop()
    alice.sure()
    expect(alice.alert).to_contain_text("does not work right now", timeout=PATIENCE)
    account.redis_server.start()
    wait_for(
        lambda: account.ask("GET", "", session).status_code == 200, "Redis is back", every=USER_PACE
    )
    alice.press("Try again")
    expect(alice.rows).to_have_count(2, timeout=PATIENCE)


# -- the front end of Auth0's sample ---------------------------------------------------------

ON_FETCH = """async () => {
  const answer = await fetch("/api/auth/user/sessions",
    { method: "GET", headers: { "Content-Type": "application/json" } });
  if (answer.status === 429) return { status: 429 };
  return { sessions: await answer.json(), status: answer.status };
}"""
ON_DELETE = """async (id) => {
  const answer = await fetch(`/api/auth/user/sessions/${id}`, { method: "DELETE" });
  if (answer.status === 429) return { status: 429 };
  return { id: (await answer.json()).id, status: answer.status };
}"""


def test_a_front_end_that_was_made_for_auth0_works_as_it_is(alice: Visit) -> None:
    """It wants a list, 200 with an id, and understands 429; it knows no header of ours."""
    alice.page.goto("/embedded")
    answer = alice.page.evaluate(ON_FETCH)
    assert answer["status"] == 200
    assert [session["id"] for session in answer["sessions"]] == [alice.own, *alice.others]
    assert answer["sessions"][1]["device"]["last_ip"] == "203.0.113.7"
    other = alice.others[0]
    assert alice.page.evaluate(ON_DELETE, other) == {"id": other, "status": 200}
    assert [one["id"] for one in alice.page.evaluate(ON_FETCH)["sessions"]] == [alice.own]
    answers = [alice.page.evaluate(ON_DELETE, "nothing")["status"] for _ in range(25)]
    assert set(answers) == {404, 429}


def test_many_that_end_together_are_asked_for_with_one_request_and_said_in_one_sentence(
    account: AccountClient, browser: Browser, app: str
) -> None:
    with visit(account, browser, app, others=28) as alice:
        alice.listed()
        alice.account.tenant.lag = 3600
        asked: list[str] = []
        alice.page.on("request", lambda one: asked.append(one.url))
        alice.press("Sign out everywhere else")
        alice.sure()
        whole = alice.page.locator("active-sessions .sum")
        expect(whole).to_have_text("0 of 28 sessions signed out", timeout=PATIENCE)
        alice.account.tenant.carry_out_all()
        # The news is an app that nobody runs here.
        expect(whole).to_have_text(
            "28 sessions signed out. Some apps follow when they are used.", timeout=60_000
        )
        expect(alice.page.get_by_role("status")).to_have_text(whole.text_content() or "")
        expect(alice.page.locator("active-sessions li .progress.good")).to_have_count(28)
        assert {one.partition("/account")[2] for one in asked} == {"/sessions", "/sessions/state"}
        assert alice.is_alive(alice.own)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_token_may_be_given_before_and_after_the_script_has_come(alice: Visit, when: str) -> None:
    tokens: list[str | None] = []
    alice.page.on("request", lambda one: tokens.append(one.headers.get("authorization"))
                  if one.url.endswith("/account/sessions") else None)  # fmt: skip
    tag = "<!doctype html><active-sessions></active-sessions>"
    alice.page.route("**/bare", lambda one: one.fulfill(content_type="text/html", body=tag))
    alice.show("/bare")
    give = "document.querySelector('active-sessions').getToken = async () => 'abc'"
    script = "import('/account/active-sessions.js').then(() => 1)"
    for step in (give, script) if when == "before" else (script, give):
        alice.page.evaluate(step)
    expect(alice.rows).to_have_count(2, timeout=PATIENCE)
    assert tokens[-1] == "Bearer abc"
