"""Which server is the primary, when Sentinels do not agree."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import redis.asyncio.sentinel
import redis.sentinel

# Sentinels on one network answer within a millisecond or two. A dead one must not cost the
# whole time that a connection may take.
_OTHER_SENTINELS_SECONDS = 0.1


class NewestPrimary(redis.sentinel.Sentinel):
    """Asks every Sentinel and believes the newest configuration.

    After a network split, the Sentinel on the wrong side still names the old primary; what is
    written there is lost when the split heals. Each failover has a higher epoch.
    """

    def discover_master(self, service_name: str) -> tuple[str, int]:
        threads = ThreadPoolExecutor(len(self.sentinels))
        try:
            pending = {threads.submit(one.sentinel_masters) for one in self.sentinels}
            states: list[dict[str, Any]] = []
            faults: list[str] = []
            while pending:
                patience = _OTHER_SENTINELS_SECONDS if states else None
                done, pending = wait(pending, timeout=patience, return_when=FIRST_COMPLETED)
                if not done:
                    break
                for answer in done:
                    if (error := answer.exception()) is not None:
                        faults.append(type(error).__name__)
                        continue
                    found: Any = answer.result()
                    state = found.get(service_name)
                    if state and self.check_master_state(state, service_name):  # type: ignore[no-untyped-call]
                        states.append(state)
        finally:
            threads.shutdown(wait=False)  # each gives up by itself
        return _newest(states, faults)


class NewestPrimaryAsync(redis.asyncio.sentinel.Sentinel):
    """`NewestPrimary`, for asyncio."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        asked = {asyncio.ensure_future(one.sentinel_masters()) for one in self.sentinels}
        pending = set(asked)
        states: list[dict[str, Any]] = []
        faults: list[str] = []
        try:
            while pending:
                patience = _OTHER_SENTINELS_SECONDS if states else None
                done, pending = await asyncio.wait(
                    pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    break
                for answer in done:
                    if (error := answer.exception()) is not None:
                        faults.append(type(error).__name__)
                        continue
                    found: Any = answer.result()
                    state = found.get(service_name)
                    if state and self.check_master_state(state, service_name):
                        states.append(state)
        finally:
            for answer in asked:
                answer.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return _newest(states, faults)


def _newest(states: Sequence[Mapping[str, Any]], faults: Sequence[str]) -> tuple[str, int]:
    """The primary of the newest configuration."""
    if not states:
        raise redis.sentinel.MasterNotFoundError(
            f"no Sentinel names a primary that is up ({', '.join(faults) or 'none answers'})"
        )
    newest = max(states, key=lambda state: int(state.get("config-epoch", 0)))
    return newest["ip"], newest["port"]
