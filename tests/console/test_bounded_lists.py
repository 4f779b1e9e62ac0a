"""Lists whose filter matches little state how far they searched, and link to older entries."""

import html
import re
from typing import Any

import pytest

from backchannel_logout import AppKeys
from tests.admin.api_fixture import AdminClient
from tests.console.test_access import ask, signed_in
from tests.support.apps.listening import event
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow

# More than a filter looks through.
MANY = 20_300


def page_and_older(admin: AdminClient, path: str, cookie: dict[str, str]) -> tuple[str, str | None]:
    """The page's text, and the address of the older ones."""
    text = ask(admin, "GET", path, headers=cookie).text
    link = re.search(r'<a href="([^"]*before=[^"]*)">Older entries', text)
    return text, html.unescape(link[1]) if link else None


def fill(admin: AdminClient, key: str, oldest: Any, others: Any) -> None:
    pipeline = admin.redis.pipeline(transaction=False)
    pipeline.xadd(key, oldest)
    for _ in range(MANY):
        pipeline.xadd(key, others)
    pipeline.execute()


@pytest.fixture(autouse=True)
def _without_events(admin: AdminClient) -> None:
    admin.redis.delete(AppKeys("news").events, "bcl:v1:refused")


def test_the_feed_s_filter_leads_on_where_it_found_nothing(admin: AdminClient) -> None:
    fields = [event("news", name).to_fields() for name in ("needle-of-old", "of-others")]
    fill(admin, AppKeys("news").events, *fields)
    cookie = signed_in(admin)
    text, older = page_and_older(admin, "/console?text=needle-of-old&kind=session", cookie)
    assert "No match among the 20,0" in text
    assert older is not None
    text, older = page_and_older(admin, older, cookie)
    assert text.count("needle-of-old</bdi>") == 1
    assert older is None


def test_an_issuer_whose_last_logout_is_long_ago_is_not_said_to_have_none(
    admin: AdminClient,
) -> None:
    cookie = signed_in(admin)
    assert "No match among" not in ask(admin, "GET", "/console/issuers", headers=cookie).text
    fill(admin, AppKeys("news").events, *[event("news", "a").to_fields()] * 2)
    text = ask(admin, "GET", "/console/issuers", headers=cookie).text
    assert "No match among the 20,0" in text


def test_a_refusal_of_long_ago_is_reached_from_the_feed_and_the_refusals(
    admin: AdminClient,
) -> None:
    fill(
        admin, "bcl:v1:refused", {"at": "1.0", "reason": "nonce", "iss": "https://old.example"},
        {"at": "2.0", "reason": "alg", "iss": "https://new.example"},
    )  # fmt: skip
    cookie = signed_in(admin)
    for path in (
        "/console/refusals?reason=nonce",
        "/console?reason=nonce&issuer=https://old.example",
    ):
        text, older = page_and_older(admin, path, cookie)
        assert "No match among the 20,000 entries" in text
        assert older is not None
        text, older = page_and_older(admin, older, cookie)
        assert "nonce</span>" in text or "refused: nonce" in text
        assert older is None


def test_health_names_an_app_that_nobody_serves(admin: AdminClient) -> None:
    admin.receiver.stop()
    admin.redis.hset(AppKeys("renamed").meta, "max_session_age", "60")
    admin.receiver.start()
    cookie = signed_in(admin)
    wait_for(
        lambda: "app renamed" in ask(admin, "GET", "/console/health", headers=cookie).text,
        "it is named",
        admin.receiver,
    )
