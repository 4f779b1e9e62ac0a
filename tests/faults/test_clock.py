"""The receiver's clock is set by an hour, and later set right."""

import signal

import pytest

from tests.faults import wrapped
from tests.faults.stage import Stage

HOUR = 3600


@pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["forward", "back"])
def test_a_clock_that_is_set_by_an_hour_and_back(step: int, stage: Stage) -> None:
    """Meanwhile every honest token is too old or too young, and refused; what was accepted
    before is replayed under the wrong clock as under the right one."""
    redis = stage.redis()
    clock = stage.directory / "clock"
    wrapped.step_clock(clock, 0)
    env = {wrapped.CLOCK_FILE: str(clock)}
    receiver = stage.receiver(redis.url, program=wrapped.PROGRAM, env=env)
    with stage.load(receiver) as load:
        load.more(100)
        redis.stop(signal.SIGKILL)
        load.more_of(40, 200)
        wrapped.step_clock(clock, step)
        load.more_of(40, 400)
        redis.start()
        load.more_of(40, 400)
        wrapped.step_clock(clock, 0)
        stage.settle(load, redis.url)
    refusals = {"iat_old", "iat_future", "exp_past"}
    way = "forward" if step > 0 else "back"
    verdict = stage.judge(f"clock an hour {way}, then right", redis.url, tolerated=refusals)
    assert verdict.unavailable == 0
