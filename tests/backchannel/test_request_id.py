"""By which an answer, its line and its refusal are found together: ours, or a trusted proxy's."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.provider import Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.slow

GIVEN = "7d2f-ingress_id.1"
FOREIGN = ["", "x" * 65, "a b", 'a"b', "é", "a;b"]


@pytest.fixture
def trusting(tmp_path: Path, provider: Provider, redis_server: RedisServer) -> Iterator[Receiver]:
    toml = config(redis_server.url, f'issuer = "{provider.issuer}"', top="trust_request_id = true")
    process = Receiver(tmp_path / "receiver", toml)
    yield process.start()
    process.stop()


def refused_as(receiver: Receiver, given: str, *, whole: bool = True) -> str:
    """The id in the answer to a request that came with this one."""
    body = b"logout_token=x.y.z"

    def parts() -> Iterator[bytes]:
        yield body[:5]
        time.sleep(0.1)  # longer than a whole request may take
        yield body[5:]

    answer = receiver.http.post(
        receiver.url + "/backchannel-logout",
        content=body if whole else parts(),
        headers={
            "content-type": "application/x-www-form-urlencoded", "X-Request-Id": given.encode(),
        } | ({"content-length": str(len(body))} if whole else {}),
    )  # fmt: skip
    assert answer.status_code == 400
    return str(answer.headers["x-request-id"])


@pytest.mark.parametrize("whole", [True, False])
def test_a_proxys_id_is_taken_over_where_it_is_trusted(trusting: Receiver, whole: bool) -> None:
    assert refused_as(trusting, GIVEN, whole=whole) == GIVEN
    wait_for(lambda: trusting.log_events("logout", request_id=GIVEN), "its line", trusting)
    (line,) = trusting.wait_for_log_event("logout", request_id=GIVEN)
    assert line["reason"] == "shape"
    # On the same connection: the next request has no id from the one before.
    assert trusting.http.post(trusting.url + "/backchannel-logout").headers["x-request-id"] != GIVEN


def test_one_that_is_not_well_formed_is_not_taken_over(trusting: Receiver) -> None:
    for given in FOREIGN:
        assert refused_as(trusting, given) != given
        assert refused_as(trusting, given, whole=False) != given


def test_nobodys_id_is_taken_over_where_that_was_not_said(receiver: Receiver) -> None:
    assert refused_as(receiver, GIVEN) != GIVEN
    assert refused_as(receiver, GIVEN, whole=False) != GIVEN
    assert GIVEN not in receiver.log


def test_ids_of_answers_do_not_tell_how_many_requests_came_between(receiver: Receiver) -> None:
    ids = [refused_as(receiver, "") for _ in range(8)]
    assert len({one[:8] for one in ids}) == len({one[8:] for one in ids}) == 8
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)
