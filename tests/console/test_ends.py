"""A user's sessions in the browser, while the provider is well, down, limiting, slow, or lying.

The neighbour survives: whatever is ended, another session of the user is not.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.admin.api_fixture import AdminClient
from tests.support.providers.api_server import Response
from tests.support.providers.auth0_api import fault, limited
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow

BOB, EVE = "auth0|bob", "auth0|eve"

DOWN = fault(503, "Service Unavailable", "words of theirs")


@pytest.fixture(autouse=True)
def _well(admin: AdminClient) -> Iterator[None]:
    yield
    admin.settle()


def end(page: Page, session: str) -> None:
    page.goto(f"/console/sessions?user={BOB}")
    confirm(page, session)
    page.wait_for_url("**/console/sessions/ending?**")


def confirm(page: Page, session: str) -> None:
    """Nothing ends at one click."""
    page.click(f"[aria-label='End {session}']")
    page.click("details[open] >> text=End this session")


def becomes(page: Page, state: str) -> None:
    expect(page.locator("#live h2 .pill")).to_have_text(state, timeout=60_000)


def acts(admin: AdminClient, act: str) -> list[dict[str, Any]]:
    return [one for one in admin.audit() if one["act"] == act]


def test_one_session_ends_and_its_neighbour_lives_and_then_all_end(
    admin: AdminClient, page: Page
) -> None:
    admin.tenant.add(BOB, "phone")
    admin.tenant.add(BOB, "desk")
    admin.tenant.add(EVE, "eves")
    end(page, "phone")
    becomes(page, "confirmed")
    assert admin.tenant.alive() == {"desk", "eves"}
    assert acts(admin, "session.end")[-1]["who"] == "admin_token"
    page.goto(f"/console/sessions?user={BOB}")
    page.fill("#why", "left the company")
    page.check("[name=sure]")
    page.click("button:has-text('End all sessions')")
    page.wait_for_url("**/console/sessions/ending?**")
    expect(page.locator("#live h2")).to_contain_text([f"All sessions of {BOB}", "desk"])
    expect(page.locator("#live h2 .pill")).to_have_text(["confirmed"] * 2, timeout=60_000)
    assert admin.tenant.alive() == {"eves"}
    assert acts(admin, "session.end")[-1]["why"] == "left the company"


def test_who_has_more_sessions_than_are_ended_at_once_is_said_to_have_some_left(
    admin: AdminClient, page: Page
) -> None:
    for _ in range(201):
        admin.tenant.add(BOB)
    admin.tenant.add(EVE, "eves")

    def end_all() -> None:
        page.check("[name=sure]")
        page.click("button:has-text('End all sessions')")
        page.wait_for_url("**/console/sessions/ending?**", timeout=60_000)

    page.goto(f"/console/sessions?user={BOB}")
    end_all()
    expect(page.locator("main")).to_contain_text("some are left")
    wait_for(lambda: len(admin.tenant.alive()) == 2, "those that were begun have ended")
    page.click("text=List the rest")
    end_all()
    expect(page.locator("main")).not_to_contain_text("some are left")
    wait_for(lambda: admin.tenant.alive() == {"eves"}, "all of this user's have ended")


def test_the_states_move_on_the_page_while_the_provider_takes_its_time(
    admin: AdminClient, page: Page
) -> None:
    admin.tenant.add(BOB, "slow")
    admin.tenant.lag = 3600
    end(page, "slow")
    becomes(page, "provider asked")
    admin.tenant.carry_out_all()
    becomes(page, "confirmed")
    expect(page.locator("#live")).to_contain_text("logout token received")


def test_a_provider_that_is_down_shows_and_the_end_comes_when_it_is_back(
    admin: AdminClient, page: Page
) -> None:
    admin.tenant.add(BOB, "patient")
    page.goto(f"/console/sessions?user={BOB}")
    admin.tenant.faults.extend([DOWN] * 4)
    confirm(page, "patient")
    expect(page.locator("[role=alert]")).to_contain_text("cannot be reached")
    assert "words of theirs" not in page.content()
    assert acts(admin, "session.end")[-1]["outcome"] == "provider_unavailable"
    assert "patient" in admin.tenant.alive()
    admin.tenant.faults.clear()
    admin.tenant.lag = 3600  # asked, and then it goes away
    end(page, "patient")
    becomes(page, "provider asked")
    admin.tenant.faults.extend([DOWN] * 6)
    expect(page.locator("#live")).to_contain_text("Not done yet", timeout=30_000)
    admin.tenant.faults.clear()
    admin.tenant.carry_out_all()
    becomes(page, "confirmed")


def test_a_provider_that_goes_on_telling_of_the_session_is_not_believed_to_have_ended_it(
    admin: AdminClient, page: Page
) -> None:
    admin.tenant.add(BOB, "undead")
    admin.tenant.lag, admin.tenant.sends = 3600.0, False
    end(page, "undead")
    expect(page.locator("#live")).to_contain_text("still knows the session", timeout=30_000)
    becomes(page, "provider asked")
    expect(page.locator("#live")).to_contain_text("Not yet")


def test_without_a_logout_token_the_page_says_who_told_the_apps_and_why(
    admin: AdminClient, page: Page
) -> None:
    admin.tenant.add(BOB, "silent")
    admin.tenant.sends = False
    end(page, "silent")
    becomes(page, "confirmed")
    expect(page.locator("#live")).to_contain_text("No logout token came within")


def test_another_users_sessions_are_neither_shown_nor_ended(admin: AdminClient, page: Page) -> None:
    admin.tenant.add(EVE, "eves")
    admin.tenant.faults_for = {BOB}
    admin.tenant.faults.append(Response(200, {"sessions": [admin.tenant.sessions["eves"]]}))
    page.goto(f"/console/sessions?user={BOB}")
    expect(page.locator("[role=alert]")).to_contain_text("cannot be used")
    assert "eves" not in page.content()
    assert admin.tenant.alive() == {"eves"}


def test_a_limit_of_the_provider_is_said(admin: AdminClient, page: Page) -> None:
    """And it is over when the provider says so."""
    admin.tenant.add(BOB, "limited")
    admin.tenant.faults_for = {BOB}
    admin.tenant.faults.append(limited(8))
    page.goto(f"/console/sessions?user={BOB}")
    expect(page.locator("[role=alert]")).to_contain_text("limits how often")

    def listed() -> bool:
        page.goto(f"/console/sessions?user={BOB}")
        return page.locator("[aria-label='End limited']").count() == 1

    wait_for(listed, "it is listed again", admin.receiver, within=60)


def test_a_session_that_somebody_else_has_ended_is_said_to_be_gone(
    admin: AdminClient, page: Page
) -> None:
    admin.tenant.add(BOB, "taken")
    page.goto(f"/console/sessions?user={BOB}")
    admin.tenant.sessions.clear()
    confirm(page, "taken")
    expect(page.locator("[role=alert]")).to_contain_text("knows no session of this id")
