"""Redis is killed, frozen, or comes back with less than it had. No provider sees any of it."""

import shutil
import signal

from tests.faults.fault_fixture import Stage


def test_a_killed_redis_comes_back_with_its_file(stage: Stage) -> None:
    """The journal takes what comes in between, and is replayed."""
    redis = stage.redis()
    with stage.load(stage.receiver(redis.url)) as load:
        load.more(150)
        redis.stop(signal.SIGKILL)
        load.more(60)
        redis.start()
        stage.settle(load, redis.url)
    verdict = stage.judge("Redis killed, back with its file", redis.url)
    assert verdict.unavailable == 0


def test_a_redis_that_hangs_for_longer_than_its_deadline(stage: Stage) -> None:
    """What it still executes when it wakes up was journaled too; the jti tells."""
    redis = stage.redis()
    with stage.load(stage.receiver(redis.url)) as load:
        load.more(150)
        redis.freeze()
        load.more(60)
        redis.thaw()
        stage.settle(load, redis.url)
    verdict = stage.judge("Redis hangs (SIGSTOP)", redis.url)
    assert verdict.unavailable == 0


def test_a_redis_that_comes_back_empty(stage: Stage) -> None:
    """Everything of the last hours is written again, also what Redis had acknowledged."""
    redis = stage.redis()
    with stage.load(stage.receiver(redis.url)) as load:
        load.more(300)
        redis.stop(signal.SIGKILL)
        shutil.rmtree(redis.directory)
        load.more(40)
        redis.start()
        stage.settle(load, redis.url)
    verdict = stage.judge("Redis back empty", redis.url)
    assert verdict.unavailable == 0


def test_a_redis_that_comes_back_with_an_old_copy(stage: Stage) -> None:
    """A backup is missing what came after it; nothing in it says so."""
    redis = stage.redis()
    copy = stage.directory / "copy"
    with stage.load(stage.receiver(redis.url)) as load:
        load.more(150)
        shutil.copytree(redis.directory, copy)
        load.more(150)
        redis.stop(signal.SIGKILL)
        shutil.rmtree(redis.directory)
        copy.rename(redis.directory)
        load.more(40)
        redis.start()
        stage.settle(load, redis.url)
    verdict = stage.judge("Redis back with an old copy", redis.url)
    assert verdict.unavailable == 0


def test_an_empty_redis_and_a_receiver_killed_at_the_same_time(stage: Stage) -> None:
    """What was acknowledged is the operating system's before the answer: it outlives both."""
    redis = stage.redis()
    receiver = stage.receiver(redis.url)
    with stage.load(receiver) as load:
        load.more(300)
        receiver.stop(signal.SIGKILL)
        redis.stop(signal.SIGKILL)
        shutil.rmtree(redis.directory)
        redis.start()
        receiver.start()
        stage.settle(load, redis.url)
    stage.judge("Redis back empty and the receiver killed", redis.url)
