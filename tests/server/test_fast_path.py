"""The fast path for complete requests: the same responses, in the same order."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.server.fast_path import PATIENCE
from tests.support.providers.provider import Provider
from tests.support.raw_http import FORM, RawConnection
from tests.support.raw_http import logout_request as request
from tests.support.receiver import Receiver, config, crashes
from tests.support.servers.redis_server import RedisServer


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def receiver(
    provider: Provider, shared_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Receiver]:
    directory: Path = tmp_path_factory.mktemp("receiver")
    receiver = Receiver(directory, config(shared_redis.url, f'issuer = "{provider.issuer}"'))
    yield receiver.start()
    receiver.stop()


LATE = PATIENCE * 4
"""A pause after which a request has gone to ASGI."""


@pytest.mark.parametrize(
    ("token", "headers", "media_type"),
    [
        ("good", (), FORM),
        ("good", (), f"{FORM}; charset=UTF-8"),
        ("x.y.z", (), FORM),
        ("", (), FORM),
        ("a&logout_token=b", (), FORM),
        ("good", (), "application/json"),
        ("good", (), ""),
        ("good", ("Connection: close",), FORM),
    ],
    ids=["good", "charset", "shape", "none", "two", "json", "no-type", "close"],
)
def test_complete_requests_and_those_in_parts_get_identical_responses(
    token: str,
    headers: tuple[str, ...],
    media_type: str,
    receiver: Receiver,
    provider: Provider,
) -> None:
    data = request(provider.token() if token == "good" else token, *headers, media_type=media_type)
    head = data.index(b"\r\n\r\n") + 4
    with RawConnection(receiver.url) as complete, RawConnection(receiver.url) as parts:
        answers = [
            complete.send(data).answer(),
            parts.send(data[:head], data[head : head + 5], data[head + 5 :], pause=LATE).answer(),
        ]
    ids = [re.findall(rb"x-request-id: (\S+)", answer) for answer in answers]
    assert ids[0] != ids[1] or ids == [[], []], "each request has its own id"
    answers = [re.sub(rb"x-request-id: \S+", b"", answer) for answer in answers]
    assert answers[0] == answers[1]
    assert answers[0].startswith((b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 400 Bad Request\r\n"))
    assert b"cache-control: no-store" in answers[0]


@pytest.mark.parametrize("at", [1, 40, -700, -1], ids=["line", "head", "body", "last"])
def test_a_request_in_two_successive_pieces_is_answered(
    at: int, receiver: Receiver, provider: Provider
) -> None:
    data = request(provider.token())
    with RawConnection(receiver.url) as connection:
        answer = connection.send(data[:at], data[at:], pause=PATIENCE / 4).answer()
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_are_answered_in_order(receiver: Receiver, provider: Provider) -> None:
    """The first takes the fast path, and the others wait for it."""
    good, bad = request(provider.token()), request("x.y.z")
    elsewhere = request("x", path="/elsewhere")
    with RawConnection(receiver.url) as connection:
        connection.send(good + bad + elsewhere + good + bad)
        answers = [connection.answer()[9:12] for _ in range(5)]
        assert answers == [b"200", b"400", b"404", b"200", b"400"]
        assert connection.send(good).answer()[9:12] == b"200", "and the connection stays open"


def test_a_pipelined_request_does_not_change_the_media_type_of_the_first(
    receiver: Receiver, provider: Provider
) -> None:
    other = request(provider.token(), media_type="application/json")
    with RawConnection(receiver.url) as connection:
        connection.send(request(provider.token()) + other)
        assert connection.answer().startswith(b"HTTP/1.1 200")
        assert b"content_type" in connection.answer()


def test_one_connection_serves_many_requests(receiver: Receiver, provider: Provider) -> None:
    with RawConnection(receiver.url) as connection:
        for n in range(20):
            data = request(provider.token(sid=f"turn{n}") if n % 2 else "x.y.z")
            answer = connection.send(data).answer()
            assert answer[9:12] == (b"200" if n % 2 else b"400")


def test_a_repeated_head_gets_its_own_body(receiver: Receiver, provider: Provider) -> None:
    good = request(provider.token(sid="alike"))
    bad = good[:-4] + bytes(byte ^ 1 for byte in good[-4:])
    other = good.replace(FORM.encode(), FORM.upper().encode().replace(b"X-WWW", b"Y-WWW"))
    with RawConnection(receiver.url) as connection:
        for data, status in (
            (good, b"200"), (bad, b"400"), (good, b"200"), (other, b"400"), (good, b"200"),
            (good.replace(b"POST", b"PUT "), b"405"),
        ):  # fmt: skip
            assert connection.send(data).answer()[9:12] == status


def test_a_known_head_inside_another_request_is_not_recognized(
    receiver: Receiver, provider: Provider
) -> None:
    """A head is recognized only where the parser would begin a request."""
    good = request(provider.token())
    with RawConnection(receiver.url) as connection:
        for _ in range(2):
            assert connection.send(good).answer()[9:12] == b"200"
        assert connection.send(good + b"GET /").answer()[9:12] == b"200"
        assert connection.send(good).answer()[9:12] == b"400"


def test_a_known_head_whose_body_is_cut_in_two_is_answered(
    receiver: Receiver, provider: Provider
) -> None:
    good = request(provider.token())
    with RawConnection(receiver.url) as connection:
        for at in (len(good), -700, 40, len(good)):
            connection.send(good[:at], good[at:], pause=PATIENCE / 4)
            assert connection.answer()[9:12] == b"200"
        connection.send(good + good)
        assert [connection.answer()[9:12] for _ in range(2)] == [b"200", b"200"]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"HTTP/1.1", b"HTTP/1.0"),
        lambda data: data.replace(b"Host: x", b"Host: x\r\nConnection: close"),
    ],
    ids=["1.0", "close"],
)
def test_a_connection_ends_when_the_client_asks_for_it(
    change: object, receiver: Receiver, provider: Provider
) -> None:
    assert callable(change)
    with RawConnection(receiver.url) as connection:
        assert connection.send(change(request(provider.token()))).answer()[9:12] == b"200"
        assert connection.has_ended()


def test_a_query_does_not_change_the_path(receiver: Receiver, provider: Provider) -> None:
    with RawConnection(receiver.url) as connection:
        data = request(provider.token(), path="/backchannel-logout?a=b")
        assert connection.send(data).answer()[9:12] == b"200"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/%62ackchannel-logout", b"404"),
        ("/backchannel-logout%0a", b"404"),
        ("/backchannel%2Dlogout", b"404"),
        ("//backchannel-logout", b"404"),
        ("/backchannel-logout/", b"404"),
        ("/./backchannel-logout", b"404"),
        ("/backchannel-logout#x", b"400"),
        ("/backchannel-logout?#x", b"400"),
        ("http://x/backchannel-logout", b"200"),
    ],
)
def test_another_spelling_of_the_path_is_another_path(
    path: str, status: bytes, receiver: Receiver, provider: Provider
) -> None:
    """A proxy that limits requests to this path must see all of them."""
    with RawConnection(receiver.url) as connection:
        data = request(provider.token(), path=path)
        assert connection.send(data).answer()[9:12] == status


@pytest.mark.slow
def test_a_body_that_never_arrives_is_answered_at_the_deadline(
    receiver: Receiver, provider: Provider
) -> None:
    """The ASGI application awaits it, and responds in time."""
    data = request(provider.token())
    with RawConnection(receiver.url) as connection:
        answer = connection.send(data[:-1]).answer()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"deadline" in answer


def test_a_client_that_leaves_in_the_middle_affects_no_other(
    receiver: Receiver, provider: Provider
) -> None:
    data = request(provider.token())
    for end in range(0, len(data), 40):
        with RawConnection(receiver.url) as connection:
            connection.send(data[:end])
    with RawConnection(receiver.url) as connection:
        assert connection.send(data).answer()[9:12] == b"200"
    assert not crashes(receiver.log)


@pytest.mark.slow
def test_every_place_is_released_whatever_the_outcome(
    provider: Provider, shared_redis: RedisServer, tmp_path: Path
) -> None:
    text = config(shared_redis.url, f'issuer = "{provider.issuer}"')
    receiver = Receiver(tmp_path, f"max_in_flight = 16\n{text}")
    receiver.start()
    try:
        with RawConnection(receiver.url) as connection:
            for n in range(20):
                good, bad = provider.token(sid=f"place{n}"), provider.token(nonce="n")
                assert connection.send(request(good)).answer()[9:12] == b"200"
                assert connection.send(request(good)).answer()[9:12] == b"200"
                assert connection.send(request(bad)).answer()[9:12] == b"400"
                assert b"signature:" in connection.send(request(forged(good))).answer()
    finally:
        receiver.stop()


def forged(token: str) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{signature[:-8]}AAAAAAAA"
