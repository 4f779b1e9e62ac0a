"""The provider's key set is missing or garbage, while strangers send tokens with unknown keys."""

import statistics
from collections.abc import Iterable

import pytest

from tests.faults.fault_fixture import Scenario
from tests.faults.load import Entry
from tests.support.servers.proxy import Proxy

# Twice as many as valid ones, each on a connection that may have to wait.
FLOOD = {"rate": 200, "connections": 64}


@pytest.mark.parametrize("mode", ["connection refused", "500", "hang", "rubbish", "huge"])
def test_a_flood_of_unknown_keys_while_the_key_set_is_broken_delays_no_logout(
    mode: str, scenario: Scenario
) -> None:
    """Known keys keep working: every valid logout is answered 200."""
    redis = scenario.redis()
    proxy = scenario.enter(Proxy(int(scenario.provider.origin.rpartition(":")[2]), scenario.random))
    keys = f'jwks_uri = "{proxy.http}/jwks"\njwks_refresh = "1s"'
    receiver = scenario.receiver(redis.url, issuer=keys)
    with scenario.load(receiver) as load:
        load.more(150)
        calm = len(load.entries)
        if mode == "connection refused":
            proxy.stop_listening()
        else:
            scenario.provider.mode = mode
        with scenario.load(receiver, draw=lambda mint: mint.unknown_key, **FLOOD) as flood:
            load.more(300)
            flooded = len(load.entries)
        scenario.provider.mode = "ok"
        scenario.settle(load, redis.url)
    valid = [entry for entry in load.entries if not entry.sent.flaw]
    ratio = median(load.entries[calm:flooded]) / median(load.entries[:calm])
    scenario.judge(
        f"key set broken ({mode}), flood of unknown keys",
        redis.url,
        flood=len(flood.entries),
        **{"median with flood / without": round(ratio, 1)},
    )
    assert {entry.answer.status for entry in valid} == {200}


def test_keys_rotated_while_the_provider_is_down_lose_no_logout(scenario: Scenario) -> None:
    """Providers send once: an unverifiable token is parked, and applied when its key arrives."""
    redis = scenario.redis()
    receiver = scenario.receiver(redis.url, issuer='jwks_refresh = "1s"')
    with scenario.load(receiver) as load:
        load.more(150)
        scenario.provider.mode = "500"
        scenario.provider.rotate("k2")
        load.more_of(60, 503)
        scenario.provider.mode = "ok"
        scenario.settle(load, redis.url)
    parked = {
        entry.sent.jti: entry.sent
        for entry in load.entries
        if entry.answer.status == 503 and not entry.sent.flaw
    }
    # Repeated tokens under the old key, which is no longer published.
    old_key = {"key_unknown"}
    scenario.judge(
        "keys rotated while the provider is down",
        redis.url,
        tolerated=old_key,
        owed=parked.values(),
        **{"answered 503, applied later": len(parked)},
    )


def median(entries: Iterable[Entry]) -> float:
    return statistics.median(entry.seconds for entry in entries if not entry.sent.flaw)
