"""Reports the first fetches of all issuers in one line: a line for each would hide the faults."""

import asyncio
from collections.abc import Collection

from app.log import new_log
from app.tokens.fetch import FETCH_SECONDS
from app.tokens.provider_keys import ProviderKeys

log = new_log(__name__)

_POLL_SECONDS = 0.1

# Discovery and the key set.
_MAX_WAIT = 2 * FETCH_SECONDS


async def first_fetches_attempted(keys: Collection[ProviderKeys]) -> None:
    """Wait as `/readyz` does, at most `FIRST_FETCH_SECONDS`."""
    while not all(one.state().attempted for one in keys):
        await asyncio.sleep(_POLL_SECONDS)


async def report_first_fetches(keys: Collection[ProviderKeys]) -> None:
    """Log what has been fetched, once no first fetch is running. Each that fails has a line of its
    own."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _MAX_WAIT
    while loop.time() < until and not all(one.has_ended_a_fetch for one in keys):
        await asyncio.sleep(_POLL_SECONDS)
    for one in keys:
        one.logs_fetches = True
    states = [one.state() for one in keys]
    log.info(
        "keys", outcome="fetched", issuers=sum(state.keys > 0 for state in states),
        of_issuers=len(states), keys=sum(state.keys for state in states),
    )  # fmt: skip
