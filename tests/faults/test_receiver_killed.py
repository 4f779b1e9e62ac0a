"""The receiver itself dies: every 200 was written before the answer."""

import signal

from tests.faults.fault_fixture import Scenario
from tests.support.receiver import crashes


def test_a_receiver_killed_again_and_again(scenario: Scenario) -> None:
    """A request without an answer may have been written or not; one with 200 was."""
    redis = scenario.redis()
    receiver = scenario.receiver(redis.url)
    with scenario.load(receiver) as load:
        for _ in range(3):
            load.more(scenario.random.randrange(60, 120))
            receiver.stop(signal.SIGKILL)
            receiver.start()
        scenario.settle(load, redis.url)
    scenario.judge("receiver killed three times", redis.url)


def test_a_receiver_killed_while_redis_is_away(scenario: Scenario) -> None:
    """The journal outlives it; a restarted one replays what the dead one took."""
    redis = scenario.redis()
    receiver = scenario.receiver(redis.url)
    with scenario.load(receiver) as load:
        load.more(60)
        redis.stop(signal.SIGKILL)
        for _ in range(2):
            load.more_of(scenario.random.randrange(30, 60), 200)
            receiver.stop(signal.SIGKILL)
            receiver.start(ready=False)
        redis.start()
        scenario.settle(load, redis.url)
    verdict = scenario.judge("receiver killed while Redis is away", redis.url)
    assert verdict.unavailable == 0


def test_receivers_that_share_a_journal_killed_in_turn(scenario: Scenario) -> None:
    """One of them never comes back: another one takes over its journal."""
    redis = scenario.redis()
    shared = f'journal = "{scenario.directory}/journal/journal.db"'
    (scenario.directory / "journal").mkdir()
    trio = [scenario.receiver(redis.url, f"receiver{n}", top=shared) for n in range(3)]
    scenario.random.shuffle(trio)
    gone, *others = trio
    with scenario.load(*trio) as load:
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
        scenario.settle(load, redis.url)
    verdict = scenario.judge("three receivers, one journal, each killed", redis.url)
    assert verdict.unavailable == 0


def test_an_orphaned_journal_is_adopted_by_the_living(scenario: Scenario) -> None:
    """No restart is needed."""
    redis = scenario.redis()
    shared = f'journal = "{scenario.directory}/journal/journal.db"'
    (scenario.directory / "journal").mkdir()
    first, second = [scenario.receiver(redis.url, f"receiver{n}", top=shared) for n in range(2)]
    with scenario.load(first, second) as load:
        load.more(60)
        redis.stop(signal.SIGKILL)
        load.more_of(40, 200)
        first.stop(signal.SIGKILL)
        redis.start()
        scenario.settle(load, redis.url)
    scenario.judge("orphaned journal adopted", redis.url)


def test_restarts_by_sigterm_under_load(scenario: Scenario) -> None:
    """Who is on the way is answered, who comes between stop and start is turned away; nobody's
    connection is reset."""
    redis = scenario.redis()
    receiver = scenario.receiver(redis.url)
    with scenario.load(receiver) as load:
        for _ in range(3):
            load.more(scenario.random.randrange(60, 120))
            assert receiver.stop() == 0
            receiver.start()
        scenario.settle(load, redis.url)
    verdict = scenario.judge("SIGTERM and restart, three times", redis.url)
    assert verdict.errors.keys() <= {"refused"}
    assert verdict.unavailable == 0
    assert not crashes(receiver.full_log)
