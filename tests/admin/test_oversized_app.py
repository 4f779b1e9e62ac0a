"""An app that fills the shared Redis with its own password does not affect other apps."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.admin.api_fixture import TOKEN
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, run_app, wait_for
from tests.support.rights import documented_rights
from tests.support.scrape import Scrape

pytestmark = pytest.mark.slow

MIB = 1 << 20
READERS, RECEIPTS = "bcl:v1:{shop}:app:readers", "bcl:v1:{shop}:app:receipts"
LETTERS, EVENTS = "bcl:v1:{shop}:app:dead-letters", "bcl:v1:{shop}:events"


def one_field(guard: Any, _: Any) -> None:
    guard.hset(READERS, "bomb", b"x" * (200 * MIB))


def many_fields(guard: Any, _: Any) -> None:
    for start in range(0, 20_000, 1000):
        guard.hset(READERS, mapping={f"r-{n}": "{}" for n in range(start, start + 1000)})


def receipts(_: Any, listener: Any) -> None:
    listener.xadd(RECEIPTS, {"v": "1"})
    listener.xadd(RECEIPTS, {"v": b"x" * (100 * MIB)})
    listener.xadd(RECEIPTS, {"v": "1"})


def dead_letters(_: Any, listener: Any) -> None:
    listener.xadd(LETTERS, {"dl_event": b"x" * (200 * MIB)})


def a_group_s_name(_: Any, listener: Any) -> None:
    listener.xgroup_create(EVENTS, b"x" * (100 * MIB), "0")


def many_groups(_: Any, listener: Any) -> None:
    pipeline = listener.pipeline(transaction=False)
    for n in range(2000):
        pipeline.xgroup_create(EVENTS, f"g-{n}", "0")
    pipeline.execute()


PASSWORDS = {"guard": "SHOP-GUARD-PASSWORD", "listener": "SHOP-LISTENER-PASSWORD"}

# Sizes reveal these before they are read. Should one be written in between, a single answer ends
# after 16 MiB.
REVEALED_BY_SIZE = [one_field, many_fields, dead_letters, many_groups]

# The answer reveals these. Each reader gives it up after 16 MiB; two readers at once, such as the
# metrics and a page, take up to 61 with what the allocator keeps. The whole answer would take 100.
REVEALED_BY_ANSWER = [receipts, a_group_s_name]

BOMBS = [(bomb, 48) for bomb in REVEALED_BY_SIZE] + [(bomb, 80) for bomb in REVEALED_BY_ANSWER]


def memory(receiver: Receiver) -> int:
    """The most that it has ever had, in bytes."""
    assert receiver.process is not None
    status = Path(f"/proc/{receiver.process.pid}/status").read_text()
    line = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert line is not None
    return int(line[1]) * 1024


def settings(redis_url: str, keys: Provider) -> str:
    clients = ", ".join(f'{{client_id = "{app}-web", app = "{app}"}}' for app in ("shop", "news"))
    return f'''
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
redis_url = "{redis_url}"
admin_token = "{TOKEN}"
[[issuers]]
issuer = "{keys.issuer}"
clients = [{clients}]
'''


@pytest.mark.parametrize(("bomb", "limit_mib"), BOMBS)
def test_an_app_that_writes_too_much_is_named_and_costs_nobody_else_anything(
    bomb: Callable[[Any, Any], None], limit_mib: int, provider: Provider, tmp_path: Path
) -> None:
    with documented_rights(tmp_path, "acl") as (url, look):
        text = settings(url, provider)
        receiver = Receiver(tmp_path / "receiver", text).start()
        try:
            port = look.connection_pool.connection_kwargs["port"]
            guard, listener = (
                redis.Redis(port=port, username=f"shop-{who}", password=PASSWORDS[who])
                for who in PASSWORDS
            )
            until(receiver, "bcl_app_unread", 0, app="shop")
            send(receiver, provider, "shop", "first")
            until(receiver, "bcl_app_events", 1, app="shop")
            headers = {"authorization": f"Bearer {TOKEN}"}
            assert receiver.http.get(receiver.admin_url + "/api/apps", headers=headers).is_success
            before = memory(receiver)
            bomb(guard, listener)
            until(receiver, "bcl_app_unread", 1, app="shop")
            for n in range(20):
                send(receiver, provider, "news", f"s-{n}")
            # While Redis takes in what was written, logouts may go through the journal.
            markers = "bcl:v1:{news}:sid:*"
            wait_for(lambda: len(look.keys(markers)) == 20, "every logout is written", receiver)
            until(receiver, "bcl_app_events", 20, app="news")
            until(receiver, "bcl_app_unread", 1, app="shop")
            apps = receiver.http.get(receiver.admin_url + "/api/apps", headers=headers).json()[
                "apps"
            ]
            (shop,) = [one for one in apps if one["app"] == "shop"]
            assert (shop["events"], shop["readers"]) == (1, [])
            assert re.search(r"app:|answer|groups", shop["beyond"])
            console = receiver.admin_url + "/console"
            signed_in = receiver.http.post(console + "/sign-in", data={"token": TOKEN})
            cookie = {"cookie": signed_in.headers["set-cookie"].partition(";")[0]}
            page = receiver.http.get(console + "/apps", headers=cookie)
            assert shop["beyond"] in page.text
            assert memory(receiver) - before < limit_mib * MIB
            said = receiver.wait_for_log_event("app", outcome="not_read", app="shop")
            assert len(said) == 1
            ended = run_app("status", "--config", "settings.toml", cwd=receiver.directory)
            assert "app shop" in ended.stdout
            assert "what the app has written is not read" in ended.stdout
        finally:
            receiver.stop()


def test_an_event_that_is_too_large_to_be_read_hides_no_other_app(
    provider: Provider, tmp_path: Path
) -> None:
    """With Redis 6.2's rules a listener can write to its app's stream."""
    with documented_rights(tmp_path, "acl") as (url, look):
        receiver = Receiver(tmp_path / "receiver", settings(url, provider)).start()
        try:
            look.xadd(EVENTS, {"x": b"x" * (20 * MIB)})
            until(receiver, "bcl_app_unread", 1, app="shop")
            send(receiver, provider, "news", "first")
            until(receiver, "bcl_app_events", 1, app="news")
            headers = {"authorization": f"Bearer {TOKEN}"}
            answer = receiver.http.get(receiver.admin_url + "/api/apps", headers=headers).json()
            faults = {one["app"]: one["fault"] for one in answer["apps"]}
            assert (faults["shop"] is not None, faults["news"]) == (True, None)
        finally:
            receiver.stop()


def test_it_is_read_again_once_it_has_cleaned_up(provider: Provider, tmp_path: Path) -> None:
    with documented_rights(tmp_path, "acl") as (url, look):
        receiver = Receiver(tmp_path / "receiver", settings(url, provider)).start()
        try:
            look.hset(READERS, "bomb", b"x" * (20 * MIB))
            until(receiver, "bcl_app_unread", 1, app="shop")
            assert Scrape(receiver).total("bcl_app_memory_bytes", app="shop", part="written") > 20e6
            look.delete(READERS)
            until(receiver, "bcl_app_unread", 0, app="shop")
            until(receiver, "bcl_app_memory_bytes", 0, app="shop", part="written")
            assert len(receiver.wait_for_log_event("app", outcome="read_again", app="shop")) == 1
        finally:
            receiver.stop()


def test_what_an_app_has_under_other_names_and_in_groups_is_in_the_metrics(
    provider: Provider, tmp_path: Path
) -> None:
    with documented_rights(tmp_path, "acl") as (url, look):
        port = look.connection_pool.connection_kwargs["port"]
        listener = redis.Redis(port=port, username="shop-listener", password=PASSWORDS["listener"])
        listener.set("bcl:v1:{shop}:app:x", b"x" * (20 * MIB))
        receiver = Receiver(tmp_path / "receiver", settings(url, provider)).start()
        try:
            send(receiver, provider, "shop", "first")
            listener.xgroup_create(EVENTS, "g", "0")
            listener.xreadgroup("g", b"x" * (20 * MIB), {EVENTS: ">"})

            def size(part: str, app: str = "shop") -> float:
                return Scrape(receiver).total("bcl_app_memory_bytes", app=app, part=part) or 0

            wait_for(lambda: size("other") > 20e6, "other names are measured", receiver)
            wait_for(lambda: size("events") > 20e6, "consumers' names are measured", receiver)
            assert size("written") == 0
            assert size("other", "news") == 0
        finally:
            receiver.stop()


def send(receiver: Receiver, provider: Provider, app: str, sid: str) -> None:
    answer = receiver.post(provider.token(sid=sid, jti=sid, aud=f"{app}-web"))
    assert answer.status_code == 200


def until(receiver: Receiver, name: str, value: float, **labels: str) -> None:
    wait_for(
        lambda: Scrape(receiver).total(name, **labels) == value, f"{name} is {value}", receiver
    )
