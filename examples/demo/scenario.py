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
from .services import APP, Services

USER = "demo|alice"

# The provider's page answers the click after every delivery. A session that is alive then stays
# alive; the rest is for a busy machine.
PATIENCE_SECONDS = 2.0

# The interval of the app's checks, and the inaccuracy of the shown times.
_PAUSE = 0.002


class ScenarioFault(Exception):
    """The scenario did not reach the logout; the message has the reason."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The app's answer at ``/me``, and its time in milliseconds, as in `DemoOutcome`."""

    status: int
    error: str | None
    at: int

    @property
    def is_alive(self) -> bool:
        return self.status == 200

    @property
    def is_dead(self) -> bool:
        """Ended, not merely unknown or broken."""
        return self.status == 401 and self.error == "session_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOutcome:
    """The results of one logout, in milliseconds since the click; None: it never happened."""

    sent: int
    received: int | None
    """When the receiver had the token, according to its event."""
    marker: str
    """The key in Redis."""
    cutoff: int | None
    written: int | None
    """When Redis ran the script that writes marker and event, according to the event's id."""
    status: int | None
    """The receiver's answer to the provider."""
    answered: int | None
    """When the provider had that answer."""
    ended: Answer
    neighbour: Answer

    @property
    def faults(self) -> list[str]:
        """The faults; empty if exactly the right session ended."""
        faults = []
        if self.status != 200:
            faults.append(
                f"the provider's logout token was answered {self.status or 'by no receiver'}"
            )
        if self.cutoff is None:
            faults.append("there is no marker in Redis")
        if not self.ended.is_dead:
            faults.append(f"the ended session is alive (GET /me: {self.ended.status})")
        if not self.neighbour.is_alive:
            faults.append(f"the other session is not alive (GET /me: {self.neighbour.status})")
        return faults


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A browser, and the id of its session."""

    name: str
    browser: Browser
    sid: str


async def sign_in(services: Services, name: str, browser: Browser) -> SignedIn:
    """Signs in at the app with the provider's login page. Raises `ScenarioFault`."""
    await browser.open(services.shop_url)
    await browser.follow("Sign in")
    await browser.press("user", USER)
    answer = await _get_me(services, browser)
    if answer.status_code != 200:
        raise ScenarioFault(f"after the sign-in, the {name}'s GET /me is {answer.status_code}")
    return SignedIn(name, browser, await _sid(services, browser))


async def _sid(services: Services, browser: Browser) -> str:
    """The browser's session, from the provider's page. Raises `ScenarioFault`."""
    page = await browser.fetch(f"{services.provider_url}/sessions")
    match = re.search(r'this browser.*?name="session_id" value="([^"]+)"', page.text, re.DOTALL)
    if match is None:
        raise ScenarioFault("the provider's page does not show the session of this browser")
    return match[1]


async def end_session(services: Services, ended: SignedIn, by: SignedIn) -> DemoOutcome:
    """Ends one session on the provider's page, in the other browser, and observes."""
    sid, keys = ended.sid, AppKeys(APP)
    marker = keys.sid(services.provider_url, sid)
    await by.browser.open(f"{services.provider_url}/sessions")
    clicked = _now()
    click = asyncio.create_task(by.browser.submit_with("session_id", sid))
    last = await _until_dead(services, ended, click)
    await click
    neighbour = await _ask(services, by)
    async with Redis.from_url(services.redis_url, decode_responses=True) as redis:
        cutoff = await redis.get(marker)
        event = await _event(redis, keys, sid)
    delivery = await _delivery(services, sid)
    sent, status = _milliseconds(delivery["sent_at"]), delivery["status"]
    answered = None if status is None else sent + int(delivery["milliseconds"]) - clicked
    return DemoOutcome(
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


async def _until_dead(services: Services, user: SignedIn, click: asyncio.Task[None]) -> Answer:
    """Polls the app until the session is dead or the time is over; returns its last answer."""
    deadline = math.inf
    while True:
        answer = await _ask(services, user)
        if answer.is_dead or time.monotonic() > deadline:
            return answer
        if click.done():
            deadline = min(deadline, time.monotonic() + PATIENCE_SECONDS)
        await asyncio.sleep(_PAUSE)


async def _ask(services: Services, user: SignedIn) -> Answer:
    answer = await _get_me(services, user.browser)
    is_json = answer.headers.get("content-type") == "application/json"
    return Answer(answer.status_code, answer.json().get("error") if is_json else None, _now())


async def _get_me(services: Services, browser: Browser) -> httpx.Response:
    """Requests ``/me`` of the app, again after each 503."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = await browser.fetch(f"{services.shop_url}/me")
        if answer.status_code != 503 or time.monotonic() > deadline:
            return answer
        await asyncio.sleep(_PAUSE)


async def _event(redis: Redis, keys: AppKeys, sid: str) -> Event | None:
    """The receiver's event about a session."""
    entries: Any = await redis.xrevrange(keys.events, count=100)
    events = (Event.from_fields(values, entry_id) for entry_id, values in entries)
    return next((event for event in events if event.sid == sid), None)


async def _delivery(services: Services, sid: str) -> dict[str, Any]:
    """The provider's record of the token that it sent for this session."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(
            f"{services.provider_url}/api/deliveries",
            headers={"Authorization": f"Bearer {services.api_token}"},
        )
    for delivery in answer.json()["deliveries"]:
        if delivery["session_id"] == sid:
            record: dict[str, Any] = delivery
            return record
    raise ScenarioFault("the provider sent no logout token for the session that it ended")


def _milliseconds(seconds: float) -> int:
    """Rounded down, like Redis, so that the shown order is correct."""
    return int(seconds * 1000)


def _now() -> int:
    return _milliseconds(time.time())
