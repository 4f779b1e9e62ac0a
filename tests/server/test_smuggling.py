"""Attackers who share a proxy's connections with other clients cannot affect their requests."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import pytest

from backchannel_logout import AppKeys
from tests.account.account_fixture import USER_PACE, AccountClient, account_client
from tests.support.providers.provider import Provider
from tests.support.raw_http import FORM, RawConnection, logout_request
from tests.support.receiver import Receiver, crashes, wait_for
from tests.support.servers.nginx import Nginx, ingress
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

OFFER = "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIA"
ATTACKERS = 6

Attack = Callable[[int], None]


def offering(path: str, hidden: bytes, number: int) -> bytes:
    """A POST whose body ends with ``hidden``. nginx forwards it in several pieces, and every second
    one is small enough for the receiver."""
    size = (60_000, 15_000)[number % 2]
    body = b"\r\n" * ((size - len(hidden)) // 2) + hidden
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n{OFFER}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


@contextlib.contextmanager
def attackers(attack: Attack) -> Iterator[None]:
    """Run attackers, each with one attack after another, while the block runs."""
    done, rounds = threading.Event(), count()

    def keep_attacking() -> None:
        while not done.is_set():
            with contextlib.suppress(OSError, AssertionError):
                attack(next(rounds))

    with ThreadPoolExecutor(ATTACKERS) as pool:
        for _ in range(ATTACKERS):
            pool.submit(keep_attacking)
        try:
            wait_for(lambda: next(rounds) > 10 * ATTACKERS, "the attack runs")
            yield
        finally:
            done.set()


@pytest.mark.parametrize("hides", ["a complete request", "a head that waits for a body"])
def test_every_genuine_logout_ends_its_session_and_no_hidden_one_is_served(
    hides: str,
    receiver: Receiver,
    provider: Provider,
    redis_server: RedisServer,
    tmp_path: Path,
) -> None:
    attacked, genuine = secrets.token_urlsafe(), [secrets.token_urlsafe() for _ in range(60)]
    hidden = logout_request(provider.token(sid=attacked))
    if hides != "a complete request":
        hidden = hidden[: hidden.index(b"\r\n\r\n") + 4]  # its body is to be the next request
    with ingress(tmp_path / "nginx", receiver.url) as nginx:

        def attack(number: int) -> None:
            with RawConnection(nginx.url) as connection:
                connection.send(offering("/backchannel-logout", hidden, number)).answer()

        def log_out(sid: str) -> int:
            with RawConnection(nginx.url) as connection:
                return int(connection.send(logout_request(provider.token(sid=sid))).answer()[9:12])

        with attackers(attack), ThreadPoolExecutor(3) as pool:
            statuses = list(pool.map(log_out, genuine))
    assert statuses == [200] * 60
    keys = AppKeys("shop")
    with redis_server.client() as look:
        assert all(look.exists(keys.sid(provider.issuer, sid)) for sid in genuine)
        assert not look.exists(keys.sid(provider.issuer, attacked))
    assert not crashes(receiver.log)


def test_no_user_sees_the_sessions_of_another(tmp_path: Path) -> None:
    """Neither when listing their own nor when requesting a file of the page."""
    with (
        account_client(tmp_path / "scene") as scene,
        ingress(tmp_path / "nginx", scene.url) as nginx,
    ):
        list_and_poll_under_attack(scene, nginx)


def list_and_poll_under_attack(scene: AccountClient, nginx: Nginx) -> None:
    mallory, users = "auth0|mallory", [f"auth0|{n}" for n in range(6)]
    own = {user: scene.tenant.add(user) for user in [mallory, *users]}
    tokens = {user: scene.access_token(own[user], sub=user) for user in own}
    listing = "GET /account/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    hidden = f"{listing}{tokens[mallory]}\r\n\r\n".encode()

    def attack(number: int) -> None:
        with RawConnection(nginx.url) as connection:
            connection.send(offering("/account/page.css", hidden, number)).answer()

    def listed(user: str) -> list[list[str]]:
        listings = []
        with httpx.Client(trust_env=False) as http:
            for _ in range(8):
                answer = http.get(
                    f"{nginx.url}/account/sessions",
                    headers={"authorization": f"Bearer {tokens[user]}"},
                )
                assert answer.status_code == 200, answer.text
                listings.append([session["id"] for session in answer.json()])
                time.sleep(USER_PACE)  # users are limited
        return listings

    def poll(_: int) -> set[str]:
        with httpx.Client(trust_env=False) as http:
            answers = [http.get(f"{nginx.url}/account/page.css") for _ in range(200)]
        return {answer.text for answer in answers}

    page = httpx.get(f"{scene.url}/account/page.css", trust_env=False)
    assert page.status_code == 200
    with attackers(attack), ThreadPoolExecutor(8) as pool:
        polled = [pool.submit(poll, n) for n in range(2)]
        listings = dict(zip(users, pool.map(listed, users), strict=True))
    assert listings == {user: [[own[user]]] * 8 for user in users}
    assert [poller.result() for poller in polled] == [{page.text}] * 2
