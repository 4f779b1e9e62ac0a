"""Redis is killed, hangs, or returns with less data. Providers notice nothing."""

import shutil
import signal

from tests.faults.fault_fixture import Scenario


def test_a_killed_redis_that_returns_with_its_file_loses_no_logout(scenario: Scenario) -> None:
    """The journal takes the logouts in between, and is replayed."""
    redis = scenario.redis()
    with scenario.load(scenario.receiver(redis.url)) as load:
        load.more(150)
        redis.stop(signal.SIGKILL)
        load.more(60)
        redis.start()
        scenario.settle(load, redis.url)
    verdict = scenario.judge("Redis killed, back with its file", redis.url)
    assert verdict.unavailable == 0


def test_a_redis_that_hangs_beyond_the_deadline_loses_no_logout(scenario: Scenario) -> None:
    """Commands that it executes when it wakes up were journaled too; their jti shows it."""
    redis = scenario.redis()
    with scenario.load(scenario.receiver(redis.url)) as load:
        load.more(150)
        redis.freeze()
        load.more(60)
        redis.thaw()
        scenario.settle(load, redis.url)
    verdict = scenario.judge("Redis hangs (SIGSTOP)", redis.url)
    assert verdict.unavailable == 0


def test_a_redis_that_returns_empty_is_filled_again(scenario: Scenario) -> None:
    """All logouts of the last hours are written again, even those that Redis acknowledged."""
    redis = scenario.redis()
    with scenario.load(scenario.receiver(redis.url)) as load:
        load.more(300)
        redis.stop(signal.SIGKILL)
        shutil.rmtree(redis.directory)
        load.more(40)
        redis.start()
        scenario.settle(load, redis.url)
    verdict = scenario.judge("Redis back empty", redis.url)
    assert verdict.unavailable == 0


def test_a_redis_that_returns_with_an_old_backup_is_completed(scenario: Scenario) -> None:
    """A backup lacks everything after it, and does not show that it does."""
    redis = scenario.redis()
    copy = scenario.directory / "copy"
    with scenario.load(scenario.receiver(redis.url)) as load:
        load.more(150)
        shutil.copytree(redis.directory, copy)
        load.more(150)
        redis.stop(signal.SIGKILL)
        shutil.rmtree(redis.directory)
        copy.rename(redis.directory)
        load.more(40)
        redis.start()
        scenario.settle(load, redis.url)
    verdict = scenario.judge("Redis back with an old copy", redis.url)
    assert verdict.unavailable == 0


def test_an_empty_redis_and_a_receiver_killed_at_the_same_time_lose_no_logout(
    scenario: Scenario,
) -> None:
    """Each record reaches the operating system before the answer, so it survives both."""
    redis = scenario.redis()
    receiver = scenario.receiver(redis.url)
    with scenario.load(receiver) as load:
        load.more(300)
        receiver.stop(signal.SIGKILL)
        redis.stop(signal.SIGKILL)
        shutil.rmtree(redis.directory)
        redis.start()
        receiver.start()
        scenario.settle(load, redis.url)
    scenario.judge("Redis back empty and the receiver killed", redis.url)
