"""Sessions of Ory Kratos with the same names, ended through its own admin API."""

import re
from pathlib import Path

import httpx
import pytest

from tests.account.account_fixture import SHOP_TOKEN, USER_PACE, now, said
from tests.support.kratos_api import KratosApi
from tests.support.receiver import Receiver, wait_for
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.slow

ALICE = "aaaaaaaa-0000-4000-8000-000000000001"
BOB = "bbbbbbbb-0000-4000-8000-000000000002"


def test_kratos_sessions_are_listed_and_ended_and_the_apps_are_told(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path / "redis").start()
    with KratosApi() as kratos:
        own, other, bobs = kratos.add(ALICE), kratos.add(ALICE), kratos.add(BOB)
        text = f'''
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
account_listen = "127.0.0.1:0"
redis_url = "{redis.url}"
account_apps = [{{app = "shop", token = "{SHOP_TOKEN}"}}]
[[issuers]]
issuer = "{kratos.origin}"
clients = [{{app = "shop"}}]
[issuers.sessions]
kind = "kratos"
admin_url = "{kratos.origin}"
'''
        receiver = Receiver(tmp_path / "receiver", text).start()
        found = re.search(r"users' own sessions:\s+(http://\S+)/account", receiver.log)
        assert found
        url = found[1] + "/account/sessions"

        def ask(method: str, path: str = "") -> httpx.Response:
            session = {"iss": kratos.origin, "sub": ALICE, "sid": own, "login_at": now() - 600}
            headers = {"authorization": f"Bearer {SHOP_TOKEN}", "bcl-session": said(session)}
            return receiver.http.request(method, url + path, headers=headers)

        try:
            listed = ask("GET").json()
            assert {one["id"] for one in listed} == {own, other}
            assert listed[0]["current"]
            assert listed[0]["device"]["last_ip"] == "192.0.2.2"
            assert ask("DELETE", f"/{bobs}").status_code == 404
            assert ask("DELETE", f"/{other}").json()["id"] == other
            state = f"/{other}/state"
            wait_for(
                lambda: ask("GET", state).json().get("gone"), "gone", receiver, every=USER_PACE
            )
            assert kratos.alive() == {own, bobs}
            with redis.client() as look:
                wait_for(
                    lambda: [e for _, e in look.xrange("bcl:v1:{shop}:events") if e["sid"] == other],  # noqa: E501
                    "told", receiver,
                )  # fmt: skip
        finally:
            receiver.stop()
            redis.stop()
