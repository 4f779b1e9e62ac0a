"""The receiver itself dies: what it answered 200 was written before the answer."""

import signal

from tests.faults.fault_fixture import Stage
from tests.support.receiver import crashes


def test_a_receiver_killed_again_and_again(stage: Stage) -> None:
    """A request without an answer may have been written or not; one with 200 was."""
    redis = stage.redis()
    receiver = stage.receiver(redis.url)
    with stage.load(receiver) as load:
        for _ in range(3):
            load.more(stage.random.randrange(60, 120))
            receiver.stop(signal.SIGKILL)
            receiver.start()
        stage.settle(load, redis.url)
    stage.judge("receiver killed three times", redis.url)


def test_a_receiver_killed_while_redis_is_away(stage: Stage) -> None:
    """The journal outlives it; a restarted one replays what the dead one took."""
    redis = stage.redis()
    receiver = stage.receiver(redis.url)
    with stage.load(receiver) as load:
        load.more(60)
        redis.stop(signal.SIGKILL)
        for _ in range(2):
            load.more_of(stage.random.randrange(30, 60), 200)
            receiver.stop(signal.SIGKILL)
            receiver.start(ready=False)
        redis.start()
        stage.settle(load, redis.url)
    verdict = stage.judge("receiver killed while Redis is away", redis.url)
    assert verdict.unavailable == 0


def test_receivers_that_share_a_journal_killed_in_turn(stage: Stage) -> None:
    """One of them never comes back: another takes over what it has left."""
    redis = stage.redis()
    shared = f'journal = "{stage.directory}/journal/journal.db"'
    (stage.directory / "journal").mkdir()
    trio = [stage.receiver(redis.url, f"receiver{n}", top=shared) for n in range(3)]
    stage.random.shuffle(trio)
    gone, *others = trio
    with stage.load(*trio) as load:
        load.more(60)
        redis.stop(signal.SIGKILL)
        load.more_of(60, 200)
        gone.stop(signal.SIGKILL)
        for receiver in others:
            load.more_of(20, 200)
            receiver.stop(signal.SIGKILL)
            receiver.start(ready=False)
        load.more_of(20, 200)
        redis.start()
        stage.settle(load, redis.url)
    verdict = stage.judge("three receivers, one journal, each killed", redis.url)
    assert verdict.unavailable == 0


def test_an_orphaned_journal_is_adopted_by_the_living(stage: Stage) -> None:
    """Nobody has to be restarted for it."""
    redis = stage.redis()
    shared = f'journal = "{stage.directory}/journal/journal.db"'
    (stage.directory / "journal").mkdir()
    first, second = [stage.receiver(redis.url, f"receiver{n}", top=shared) for n in range(2)]
    with stage.load(first, second) as load:
        load.more(60)
        redis.stop(signal.SIGKILL)
        load.more_of(40, 200)
        first.stop(signal.SIGKILL)
        redis.start()
        stage.settle(load, redis.url)
    stage.judge("orphaned journal adopted", redis.url)


def test_restarts_by_sigterm_under_load(stage: Stage) -> None:
    """Who is on the way is answered, who comes between stop and start is turned away; nobody's
    connection is reset."""
    redis = stage.redis()
    receiver = stage.receiver(redis.url)
    with stage.load(receiver) as load:
        for _ in range(3):
            load.more(stage.random.randrange(60, 120))
            assert receiver.stop() == 0
            receiver.start()
        stage.settle(load, redis.url)
    verdict = stage.judge("SIGTERM and restart, three times", redis.url)
    assert verdict.errors.keys() <= {"refused"}
    assert verdict.unavailable == 0
    assert not crashes(receiver.full_log)
