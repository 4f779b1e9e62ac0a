"""Users' own sessions at Keycloak: two browsers of one user, through the app's route.

Keycloak reuses the session id when the browser signs in again: that login must survive.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backchannel_logout.account import AccountProxy
from tests.account.account_fixture import USER_PACE
from tests.interop.interop_fixture import InteropSetup
from tests.interop.keycloak import Keycloak, Realm
from tests.interop.relying_app import RelyingApp
from tests.interop.test_keycloak_sessions import ROLES, SECRET, new_account
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.interop

TOKEN = "the-token-of-the-shop-backend-000000"
SAME = {"sec-fetch-site": "same-origin"}


class AccountSetup(InteropSetup[Realm]):
    """A setup with the users' listener and the realm's session API."""

    def _start_receiver(self, apps: list[RelyingApp], accepts: tuple[str, ...]) -> Receiver:
        [app] = apps
        top = f"""
account_listen = "127.0.0.1:0"
account_apps = [{{app = "{app.name}", token = "{TOKEN}"}}]
"""
        issuer = f'issuer = "{self.op.issuer}"\nalgorithms = {list(accepts)}'
        clients = f'[{{client_id = "{app.client_id}", app = "{app.name}"}}]'
        sessions = f"""
[issuers.sessions]
kind = "keycloak"
client_id = "bcl-receiver"
secret = "{SECRET}"
"""
        text = config(self.redis.url, issuer, top=top, clients=clients) + sessions
        receiver = Receiver(self._directory, text)
        self.callback(receiver.stop)
        receiver.start()
        found = re.search(r"users' own sessions:\s+(http://\S+)/account", receiver.log)
        assert found
        self.proxy = AccountProxy(found[1], TOKEN)
        return receiver

    def ask(self, method: str, path: str, session: dict[str, Any]) -> Any:
        """The app route's response in this session; retries while Keycloak is busy."""
        for _ in range(10):
            answer = self.proxy.answer(method, path, session, SAME)
            if answer.status not in (502, 504):
                assert answer.status == 200, answer
                return json.loads(answer.body)
            time.sleep(1)
        raise AssertionError(answer)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait at a user's pace."""
        wait_for(condition, what, self.receiver, every=USER_PACE)


@pytest.fixture
def setup(keycloak: Keycloak, shared_redis: RedisServer, tmp_path: Path) -> Iterator[AccountSetup]:
    realm = keycloak.realm("alice", "bob")
    new_account(realm, "bcl-receiver", *ROLES)
    with AccountSetup(realm, shared_redis, tmp_path) as parts:
        yield parts


def test_ending_one_signs_out_only_that_browser_which_can_sign_in_again(
    setup: AccountSetup,
) -> None:
    [shop] = setup.open("shop")
    laptop, phone, bob = setup.visitor("alice"), setup.visitor("alice"), setup.visitor("bob")
    here, there = laptop.sign_in(shop), phone.sign_in(shop)
    bobs = bob.sign_in(shop)

    listed = setup.ask("GET", "/sessions", here)
    assert [session["id"] for session in listed] == [here["sid"], there["sid"]]
    assert [session["current"] for session in listed] == [True, False]
    assert listed[0]["device"]["last_ip"] == "127.0.0.1"
    assert setup.proxy.answer("DELETE", f"/sessions/{bobs['sid']}", here, SAME).status == 404

    assert setup.ask("DELETE", f"/sessions/{there['sid']}", here)["id"] == there["sid"]

    assert phone.is_signed_out(shop)
    assert laptop.is_signed_in(shop)
    assert bob.is_signed_in(shop)
    state = f"/sessions/{there['sid']}/state"
    setup.until(lambda: setup.ask("GET", state, here)["gone"], "Keycloak has said so")
    assert {event.source for event in setup.events(shop)} == {"backchannel-logout"}

    time.sleep(1.01 - time.time() % 1)  # a login in the second of a logout is dead too
    phone.sign_in(shop)
    setup.until(lambda: setup.ask("GET", state, here)["final"], "nothing more comes")
    assert phone.is_signed_in(shop)


def test_signing_out_everywhere_else_keeps_this_browser_and_other_users(
    setup: AccountSetup,
) -> None:
    [shop] = setup.open("shop")
    laptop, phone, bob = setup.visitor("alice"), setup.visitor("alice"), setup.visitor("bob")
    here, there = laptop.sign_in(shop), phone.sign_in(shop)
    bob.sign_in(shop)

    ended = setup.ask("DELETE", "/sessions", here)["sessions"]

    assert [session["id"] for session in ended] == [there["sid"]]
    assert phone.is_signed_out(shop)
    assert laptop.is_signed_in(shop)
    assert bob.is_signed_in(shop)


def test_without_a_logout_token_a_new_login_under_the_same_id_lives(setup: AccountSetup) -> None:
    """The receiver writes the event itself, ten seconds after the session was gone."""
    [shop] = setup.open("shop")
    [client] = setup.op.admin("GET", f"/clients?clientId={shop.client_id}")
    client["attributes"]["backchannel.logout.url"] = ""
    setup.op.admin("PUT", f"/clients/{client['id']}", client)
    laptop, phone = setup.visitor("alice"), setup.visitor("alice")
    here, there = dict(laptop.sign_in(shop)), dict(phone.sign_in(shop))

    setup.ask("DELETE", f"/sessions/{there['sid']}", here)
    wait_for(
        lambda: there["sid"] not in {session["id"] for session in setup.op.sessions("alice")},
        "it is gone",
    )
    time.sleep(1.5)  # after the second in which it ended
    anew = phone.sign_in(shop)
    [event] = _until_told(setup, shop)
    assert event.source == "keycloak"
    assert there["login_at"] <= event.cutoff < anew["login_at"]
    assert phone.is_signed_in(shop)


def _until_told(setup: AccountSetup, shop: RelyingApp) -> Any:
    wait_for(lambda: setup.events(shop), "the receiver writes the event", setup.receiver, within=60)
    return setup.events(shop)
