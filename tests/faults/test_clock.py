"""The receiver's clock is set by an hour, and later set right."""

import contextlib
import signal
import time
from http.client import HTTPConnection

import pytest

from backchannel_logout import AppKeys
from tests.faults import wrapped
from tests.faults.fault_fixture import Scenario
from tests.faults.ledger import APP

HOUR = 3600


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_clock_set_wrong_by_an_hour_and_back_loses_no_accepted_logout(
    step: int, scenario: Scenario
) -> None:
    """While it is wrong, every valid token is too old or too new, and refused. Logouts accepted
    before are replayed under the wrong clock as under the right one.
    """
    redis = scenario.redis()
    clock = scenario.directory / "clock"
    wrapped.step_clock(clock, 0)
    env = {wrapped.CLOCK_FILE: str(clock)}
    receiver = scenario.receiver(redis.url, program=wrapped.PROGRAM, env=env)
    with scenario.load(receiver) as load:
        load.more(100)
        redis.stop(signal.SIGKILL)
        load.more_of(40, 200)
        wrapped.step_clock(clock, step)
        load.more_of(40, 400)
        redis.start()
        load.more_of(40, 400)
        wrapped.step_clock(clock, 0)
        scenario.settle(load, redis.url)
    refusals = {"iat_old", "iat_future", "exp_past"}
    way = "forward" if step > 0 else "back"
    verdict = scenario.judge(f"clock an hour {way}, then right", redis.url, tolerated=refusals)
    assert verdict.unavailable == 0


def test_a_clock_corrected_during_a_request_acknowledges_no_useless_cutoff(
    scenario: Scenario,
) -> None:
    """An accepted token ends its session. One that cannot is refused, and not acknowledged with a
    cutoff of an hour ago.
    """
    redis = scenario.redis()
    clock = scenario.directory / "clock"
    wrapped.step_clock(clock, -HOUR)
    env = {wrapped.CLOCK_FILE: str(clock)}
    receiver = scenario.receiver(redis.url, program=wrapped.PROGRAM, env=env)
    iat = int(time.time())
    body = f"logout_token={scenario.provider.token(sid='s', iat=iat)}"
    connection = HTTPConnection(receiver.url.removeprefix("http://"), timeout=10)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/backchannel-logout")
        connection.putheader("Content-Type", "application/x-www-form-urlencoded")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        # The event loop has read everything that arrived before this answer.
        assert receiver.http.get(receiver.admin_url + "/livez").status_code == 200
        wrapped.step_clock(clock, 0)
        connection.send(body.encode())
        status = connection.getresponse().status
    with redis.client() as client:
        marker = client.get(AppKeys(APP).sid(scenario.provider.issuer, "s"))
    assert (status, marker) in [(200, str(iat)), (400, None)]
