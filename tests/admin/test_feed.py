"""The feed: every logout and refusal as it happens, resumable by a client."""

import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest

from backchannel_logout import AppKeys
from tests.admin.api_fixture import TOKEN, AdminClient, Listener, admin_client
from tests.support.apps.listening import event
from tests.support.receiver import wait_for

pytestmark = pytest.mark.slow


def send(admin: AdminClient, *sids: str, aud: Any = "shop-web") -> None:
    for sid in sids:
        assert admin.receiver.post(admin.keys.token(sid=sid, aud=aud)).status_code == 200


def test_a_logout_and_a_refusal_are_told_as_they_happen(admin: AdminClient) -> None:
    with Listener(admin) as feed:
        assert feed.response.headers["content-type"].startswith("text/event-stream")
        assert feed.response.headers["cache-control"] == "no-store"
        assert feed.next() == ("ready", {})
        send(admin, "told-1")
        name, event = feed.next()
        assert (name, event["sid"], event["app"], event["kind"]) == (
            "logout", "told-1", "shop", "session",
        )  # fmt: skip
        assert admin.receiver.post(admin.keys.token(aud="nobody")).status_code == 400
        name, refusal = feed.next()
        assert (name, refusal["reason"]) == ("refusal", "aud_unknown")


def test_a_client_that_comes_back_misses_nothing_and_gets_nothing_twice(admin: AdminClient) -> None:
    with Listener(admin) as feed:
        feed.next()
        ready = feed.last
        send(admin, "a-1", "a-2", aud=["shop-web", "news-web"])
        seen = [
            (event["app"], event["sid"]) for _, event in (feed.next(), feed.next(), feed.next())
        ]
        last = feed.last
    send(admin, "a-3")
    with Listener(admin, last=last) as feed:
        feed.next()
        rest = [feed.next()[1] for _ in range(2)]
        seen += [(event["app"], event["sid"]) for event in rest]
    assert sorted(seen) == [
        ("news", "a-1"), ("news", "a-2"), ("shop", "a-1"), ("shop", "a-2"), ("shop", "a-3"),
    ]  # fmt: skip
    with Listener(admin, last=ready) as feed:
        feed.next()
        again = [feed.next()[1] for _ in range(5)]
    assert sorted((event["app"], event["sid"]) for event in again) == sorted(seen)


def test_one_app_alone_can_be_followed_and_refusals_left_out(admin: AdminClient) -> None:
    with Listener(admin, "/feed?app=news&refusals=false") as feed:
        feed.next()
        send(admin, "b-1")
        # It is written later than it is answered: the next test must not hear of it.
        admin.wait_for_refusal(admin.receiver.post(admin.keys.token(aud="nobody")))
        send(admin, "b-2", aud="news-web")
        name, event = feed.next()
        assert (name, event["app"], event["sid"]) == ("logout", "news", "b-2")


@pytest.mark.parametrize("last", ["5-0", "{", "[]", '{"shop": 5}', '{"shop": "x"}', "nonsense"])
def test_an_id_that_this_feed_never_gave_is_refused(admin: AdminClient, last: str) -> None:
    answer = admin.get("/feed", headers={"last-event-id": last})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_stream_that_was_trimmed_past_the_reader_says_that_entries_are_missing(
    admin: AdminClient,
) -> None:
    with Listener(admin, "/feed?app=shop&refusals=false") as feed:
        feed.next()
        send(admin, "c-1")
        feed.next()
        last = feed.last
    send(admin, "c-2", "c-3")
    admin.redis.xtrim(AppKeys("shop").events, maxlen=1, approximate=False)
    with Listener(admin, "/feed?app=shop&refusals=false", last=last) as feed:
        assert feed.next()[0] == "ready"
        assert feed.next() == ("missed", {"app": "shop"})
        assert feed.next()[1]["sid"] == "c-3"


def test_a_reader_that_is_slower_than_the_trimming_is_told_and_goes_on(tmp_path: Path) -> None:
    """What it has not read when the stream is trimmed past it is gone, also while it listens."""
    # A client that does not read is given up after this time: the test does not while it writes.
    patient = 'body_timeout = "60s"'
    with (
        admin_client(tmp_path, top=patient) as own,
        Listener(own, "/feed?app=shop&refusals=false") as feed,
    ):
        assert feed.next()[0] == "ready"
        send(own, "the-first")
        assert feed.next()[1]["sid"] == "the-first"
        pipeline = own.redis.pipeline(transaction=False)
        # More than every buffer on the way takes: the receiver stops, and waits for the reader.
        padding = "x" * 20_000
        for n in range(3000):
            fields = event("shop", f"{n}-{padding}").to_fields()
            pipeline.xadd(AppKeys("shop").events, fields, maxlen=1000, approximate=False)
        pipeline.execute()
        send(own, "the-last")
        names, sid = [], ""
        while sid != "the-last":
            name, members = feed.next()
            names.append(name)
            sid = members.get("sid", "")
        assert len(names) < 3000
        assert "missed" in names


def test_listeners_are_few_and_their_places_are_given_back(tmp_path: Path) -> None:
    with admin_client(tmp_path) as own:
        feeds = [Listener(own) for _ in range(32)]
        for feed in feeds:
            assert feed.response.status_code == 200, own.receiver.log
            feed.next()
        answer = own.get("/feed")
        assert (answer.status_code, answer.json()["error"]) == (503, "too_many_listeners")
        assert answer.headers["retry-after"]
        for feed in feeds:
            feed.__exit__(None, None, None)

        def has_place() -> bool:
            with Listener(own) as feed:
                return feed.response.status_code == 200

        wait_for(has_place, "a place is free again", own.receiver)


def test_a_client_that_never_reads_keeps_no_place(tmp_path: Path) -> None:
    with (
        admin_client(tmp_path, top='body_timeout = "1s"') as own,
        contextlib.ExitStack() as others,
        socket.socket() as silent,
    ):
        for _ in range(31):
            others.enter_context(Listener(own, "/feed?app=news&refusals=false")).next()
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", int(own.receiver.admin_url.rpartition(":")[2])))
        silent.sendall(
            b"GET /api/feed?app=shop HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
        )

        def status() -> int:
            with Listener(own, "/feed?app=news") as feed:
                return feed.response.status_code

        silent.settimeout(20)
        came = b""
        while b"event: ready" not in came:
            part = silent.recv(1)
            assert part, came
            came += part
        assert status() == 503, "every place is taken"
        pipeline = own.redis.pipeline(transaction=False)
        padding = "x" * 20_000
        for n in range(1000):
            pipeline.xadd(AppKeys("shop").events, event("shop", f"{n}-{padding}").to_fields())
        pipeline.execute()
        wait_for(lambda: status() == 200, "its place is free again", own.receiver)


def test_a_stop_ends_the_feed_at_once(tmp_path: Path) -> None:
    with admin_client(tmp_path, top='shutdown_grace = "15s"') as own, Listener(own) as feed:
        feed.next()
        assert own.receiver.process is not None
        own.receiver.process.terminate()
        assert feed.ends()
        assert own.receiver.process.wait(10) == 0
        own.receiver.process = None
