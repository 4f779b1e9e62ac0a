"""The connection to Redis is slow, half-open or reset, and clients leave before their answer."""

from tests.faults.fault_fixture import Scenario
from tests.support.servers.proxy import Proxy


def test_a_half_open_connection_loses_no_logout(scenario: Scenario) -> None:
    """No replies and no close; new connections fare the same for a while."""
    redis = scenario.redis()
    proxy = scenario.enter(Proxy(redis.port, scenario.random))
    with scenario.load(scenario.receiver(proxy.url)) as load:
        load.more(150)
        proxy.fall_silent()
        load.more(60)
        proxy.heal()
        scenario.settle(load, redis.url)
    verdict = scenario.judge("way to Redis half-open", redis.url)
    assert verdict.unavailable == 0


def test_a_slow_connection_and_clients_that_leave_mix_up_no_answers(scenario: Scenario) -> None:
    """A cancelled request leaves no reply behind that another could read as its own."""
    redis = scenario.redis()
    proxy = scenario.enter(Proxy(redis.port, scenario.random))
    with scenario.load(scenario.receiver(proxy.url), hang_up=0.3, connections=32) as load:
        proxy.delay = 0.05
        load.more(300)
        # Occasionally later than the deadline of a write.
        proxy.delay = 0.6
        load.more(60)
        proxy.delay = 0
        scenario.settle(load, redis.url)
    verdict = scenario.judge("way to Redis slow, clients leave early", redis.url)
    assert verdict.errors.keys() <= {"hung_up"}


def test_connections_reset_during_a_command_lose_no_logout(scenario: Scenario) -> None:
    """Half a script does not run; one without a reply is written twice and counts once."""
    redis = scenario.redis()
    proxy = scenario.enter(Proxy(redis.port, scenario.random))
    with scenario.load(scenario.receiver(proxy.url), hang_up=0.1) as load:
        proxy.breaking = 0.2
        load.more(300)
        proxy.breaking = 0
        scenario.settle(load, redis.url)
    verdict = scenario.judge("way to Redis reset in mid-command", redis.url)
    assert verdict.unavailable == 0
    assert proxy.broken > 20
