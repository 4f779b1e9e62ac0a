"""The request id of response, log line and refusal: ours, or a trusted proxy's."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

GIVEN = "7d2f-ingress_id.1"
MALFORMED = ["", "x" * 65, "a b", 'a"b', "é", "a;b"]


@pytest.fixture
def trusting(tmp_path: Path, provider: Provider, redis_server: RedisServer) -> Iterator[Receiver]:
    toml = config(redis_server.url, f'issuer = "{provider.issuer}"', top="trust_request_id = true")
    process = Receiver(tmp_path / "receiver", toml)
    yield process.start()
    process.stop()


def id_of_refusal(receiver: Receiver, given: str, *, complete: bool = True) -> str:
    """The id in the response to a request with the id ``given``."""
    body = b"logout_token=x.y.z"

    def parts() -> Iterator[bytes]:
        yield body[:5]
        time.sleep(0.1)  # longer than the fast path waits
        yield body[5:]

    answer = receiver.http.post(
        receiver.url + "/backchannel-logout",
        content=body if complete else parts(),
        headers={
            "content-type": "application/x-www-form-urlencoded", "X-Request-Id": given.encode(),
        } | ({"content-length": str(len(body))} if complete else {}),
    )  # fmt: skip
    assert answer.status_code == 400
    return str(answer.headers["x-request-id"])


@pytest.mark.parametrize("complete", [True, False])
def test_a_trusted_proxys_id_is_used(trusting: Receiver, complete: bool) -> None:
    assert id_of_refusal(trusting, GIVEN, complete=complete) == GIVEN
    wait_for(lambda: trusting.log_events("logout", request_id=GIVEN), "its line", trusting)
    (line,) = trusting.wait_for_log_event("logout", request_id=GIVEN)
    assert line["reason"] == "shape"
    # The next request on the connection does not inherit it.
    assert trusting.http.post(trusting.url + "/backchannel-logout").headers["x-request-id"] != GIVEN


def test_a_malformed_id_is_not_used(trusting: Receiver) -> None:
    for given in MALFORMED:
        assert id_of_refusal(trusting, given) != given
        assert id_of_refusal(trusting, given, complete=False) != given


def test_a_clients_id_is_not_used_without_the_setting(receiver: Receiver) -> None:
    assert id_of_refusal(receiver, GIVEN) != GIVEN
    assert id_of_refusal(receiver, GIVEN, complete=False) != GIVEN
    assert GIVEN not in receiver.log


def test_ids_do_not_reveal_the_number_of_requests(receiver: Receiver) -> None:
    ids = [id_of_refusal(receiver, "") for _ in range(8)]
    assert len({each[:8] for each in ids}) == len({each[8:] for each in ids}) == 8
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)
