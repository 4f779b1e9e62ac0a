"""The receiver itself is killed: every 200 was durable before it was sent."""

import signal

from tests.faults.fault_fixture import Scenario
from tests.support.receiver import crashes


def test_a_receiver_killed_repeatedly_loses_no_acknowledged_logout(scenario: Scenario) -> None:
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


def test_a_receiver_killed_while_redis_is_down_loses_no_logout(scenario: Scenario) -> None:
    """The journal survives: a restarted receiver replays what its predecessor accepted."""
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


def test_receivers_with_one_journal_path_killed_in_turn_lose_no_logout(scenario: Scenario) -> None:
    """One of them never comes back: another one adopts its journal."""
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


def test_an_orphaned_journal_is_adopted_by_a_running_receiver(scenario: Scenario) -> None:
    """A running receiver adopts it, without a restart."""
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


def test_restarts_by_sigterm_under_load_reset_no_connection(scenario: Scenario) -> None:
    """Requests in transit are answered, connections between stop and start are refused, and none is
    reset.
    """
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
