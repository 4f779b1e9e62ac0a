"""Redis is killed, frozen, or comes back with less than it had. No provider sees any of it."""

import shutil
import signal

from tests.faults.fault_fixture import Scenario


def test_a_killed_redis_comes_back_with_its_file(scenario: Scenario) -> None:
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


def test_a_redis_that_hangs_for_longer_than_its_deadline(scenario: Scenario) -> None:
    """Commands that it executes when it wakes up were journaled too; the jti shows it."""
    redis = scenario.redis()
    with scenario.load(scenario.receiver(redis.url)) as load:
        load.more(150)
        redis.freeze()
        load.more(60)
        redis.thaw()
        scenario.settle(load, redis.url)
    verdict = scenario.judge("Redis hangs (SIGSTOP)", redis.url)
    assert verdict.unavailable == 0


def test_a_redis_that_comes_back_empty(scenario: Scenario) -> None:
    """Everything of the last hours is written again, also what Redis had acknowledged."""
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


def test_a_redis_that_comes_back_with_an_old_copy(scenario: Scenario) -> None:
    """A backup lacks everything after it, and nothing in it shows that."""
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


def test_an_empty_redis_and_a_receiver_killed_at_the_same_time(scenario: Scenario) -> None:
    """The operating system has each record before the answer: it outlives both."""
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
