"""The scripted part: a user signs in from two browsers and ends the session of one."""

import asyncio
import math
import re
import time
from dataclasses import dataclass, replace
from typing import Any

import httpx
from redis.asyncio import Redis

from backchannel_logout import AppKeys, Event

from .browser import Browser
from .stage import APP, Stage

USER = "demo|alice"

# The provider's page answers the click when every app was told, with whatever result. What is
# not dead by then stays alive; the rest is for a busy machine.
PATIENCE_SECONDS = 2.0

# How often the app is asked; what it says first is shown this much late.
_PAUSE = 0.002


class SceneFault(Exception):
    """It did not come to the logout; the message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the app said at ``/me``, and when: milliseconds, as in `Outcome`."""

    status: int
    error: str | None
    at: int

    @property
    def is_alive(self) -> bool:
        return self.status == 200

    @property
    def is_dead(self) -> bool:
        """Ended, not merely unknown or out of order."""
        return self.status == 401 and self.error == "session_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one logout did. Times are milliseconds since the click; None: it never happened."""

    sent: int
    received: int | None
    """When the receiver had the token, as it says itself in its event."""
    marker: str
    """The key in Redis."""
    cutoff: int | None
    written: int | None
    """When Redis ran the script that writes marker and event, by the event's id."""
    status: int | None
    """The receiver's answer to the provider."""
    answered: int | None
    """When the provider had that answer."""
    ended: Answer
    neighbour: Answer

    @property
    def faults(self) -> list[str]:
        """What is wrong; empty when exactly the right session died."""
        found = []
        if self.status != 200:
            found.append(f"the provider's logout token was answered {self.status or 'by nobody'}")
        if self.cutoff is None:
            found.append("there is no marker in Redis")
        if not self.ended.is_dead:
            found.append(f"the session that was ended lives (GET /me: {self.ended.status})")
        if not self.neighbour.is_alive:
            found.append(f"the other session does not live (GET /me: {self.neighbour.status})")
        return found


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A browser, and the id of its session."""

    name: str
    browser: Browser
    sid: str


async def sign_in(stage: Stage, name: str, browser: Browser) -> SignedIn:
    """Sign in at the app through the provider's login page. Raises `SceneFault`."""
    await browser.open(stage.shop_url)
    await browser.follow("Sign in")
    await browser.press("user", USER)
    answer = await _get_me(stage, browser)
    if answer.status_code != 200:
        raise SceneFault(f"after the sign-in, the {name}'s GET /me is {answer.status_code}")
    return SignedIn(name, browser, await _sid(stage, browser))


async def _sid(stage: Stage, browser: Browser) -> str:
    """The browser's session, as the provider's page shows it. Raises `SceneFault`."""
    page = await browser.fetch(f"{stage.provider_url}/sessions")
    found = re.search(r'this browser.*?name="session_id" value="([^"]+)"', page.text, re.DOTALL)
    if found is None:
        raise SceneFault("the provider's page does not show the session of this browser")
    return found[1]


async def end_session(stage: Stage, ended: SignedIn, by: SignedIn) -> Outcome:
    """End one session on the provider's page, in the other's browser, and watch."""
    sid, keys = ended.sid, AppKeys(APP)
    marker = keys.sid(stage.provider_url, sid)
    await by.browser.open(f"{stage.provider_url}/sessions")
    clicked = _now()
    click = asyncio.create_task(by.browser.submit_with("session_id", sid))
    last = await _until_dead(stage, ended, click)
    await click
    neighbour = await _ask(stage, by)
    async with Redis.from_url(stage.redis_url, decode_responses=True) as redis:
        cutoff = await redis.get(marker)
        event = await _event(redis, keys, sid)
    delivery = await _delivery(stage, sid)
    sent, status = _milliseconds(delivery["sent_at"]), delivery["status"]
    answered = None if status is None else sent + int(delivery["milliseconds"]) - clicked
    return Outcome(
        sent=sent - clicked,
        received=_milliseconds(event.received_at) - clicked if event else None,
        marker=marker,
        cutoff=int(cutoff) if cutoff else None,
        written=int((event.id or "").partition("-")[0]) - clicked if event else None,
        status=status,
        answered=answered,
        ended=replace(last, at=last.at - clicked),
        neighbour=replace(neighbour, at=neighbour.at - clicked),
    )


async def _until_dead(stage: Stage, one: SignedIn, click: asyncio.Task[None]) -> Answer:
    """Ask the app until the session is dead or the time is over; its last answer."""
    deadline = math.inf
    while True:
        answer = await _ask(stage, one)
        if answer.is_dead or time.monotonic() > deadline:
            return answer
        if click.done():
            deadline = min(deadline, time.monotonic() + PATIENCE_SECONDS)
        await asyncio.sleep(_PAUSE)


async def _ask(stage: Stage, one: SignedIn) -> Answer:
    answer = await _get_me(stage, one.browser)
    is_json = answer.headers.get("content-type") == "application/json"
    return Answer(answer.status_code, answer.json().get("error") if is_json else None, _now())


async def _get_me(stage: Stage, browser: Browser) -> httpx.Response:
    """Ask the app; 503 means that it does not know, so ask again."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = await browser.fetch(f"{stage.shop_url}/me")
        if answer.status_code != 503 or time.monotonic() > deadline:
            return answer
        await asyncio.sleep(_PAUSE)


async def _event(redis: Redis, keys: AppKeys, sid: str) -> Event | None:
    """The receiver's event about a session."""
    entries: Any = await redis.xrevrange(keys.events, count=100)
    events = (Event.from_fields(values, entry_id) for entry_id, values in entries)
    return next((event for event in events if event.sid == sid), None)


async def _delivery(stage: Stage, sid: str) -> dict[str, Any]:
    """What the provider tells of the token that it sent for this session."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(
            f"{stage.provider_url}/api/deliveries",
            headers={"Authorization": f"Bearer {stage.api_token}"},
        )
    for delivery in answer.json()["deliveries"]:
        if delivery["session_id"] == sid:
            found: dict[str, Any] = delivery
            return found
    raise SceneFault("the provider sent no logout token for the session that it ended")


def _milliseconds(seconds: float) -> int:
    """Rounded down, as Redis does it: so what comes later is never shown as earlier."""
    return int(seconds * 1000)


def _now() -> int:
    return _milliseconds(time.time())
