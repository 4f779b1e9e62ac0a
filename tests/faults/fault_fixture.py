"""One fault test: provider, servers, receivers, load, and the verdict."""

import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.faults.ledger import (
    RedisState,
    Verdict,
    acknowledged,
    count_answers,
    survivors,
    wrong_answers,
)
from tests.faults.load import Entry, Load
from tests.faults.tokens import Mint, SentToken
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config
from tests.support.servers.redis_server import RedisServer, free_port

# An answer is due after 1.8 s. The rest is noise on a small machine that is killing and starting
# servers, plus the time that the load itself waited for a processor.
SLOWEST_ANSWER = 1.8 + 1.2
LAGS = 4

# By then Redis has everything that was acknowledged; usually it takes a second or two. Later
# acknowledgements have this long, counted from the end of the load.
CATCH_UP_SECONDS = 30
LAST_SECONDS = 10

T = TypeVar("T")


class Scenario:
    """Everything that one test starts, and stops when it ends."""

    def __init__(
        self, directory: Path, seed: int, name: str, record: Callable[[Verdict], None]
    ) -> None:
        self.directory = directory
        self.seed = seed
        self.random = Random(f"{seed} {name}")  # noqa: S311  repeatable on purpose
        self._record = record
        self._stack = ExitStack()
        self.provider = self.enter(Provider(alg="ES256"))
        self._loads: list[Load] = []
        self._over_at = float("inf")
        self._caught_up: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    # -- parts ----------------------------------------------------------------------------

    def enter(self, part: AbstractContextManager[T]) -> T:
        return self._stack.enter_context(part)

    def redis(self, *options: str, name: str = "redis") -> RedisServer:
        """A running server that only this test uses."""
        server = RedisServer(self.directory / name, *options)
        self._stack.callback(server.stop)
        return server.start()

    def receiver(
        self,
        redis_url: str,
        name: str = "receiver",
        *,
        top: str = "",
        issuer: str = "",
        program: Sequence[str] = (sys.executable, "-m", "app"),
        env: dict[str, str] | None = None,
    ) -> Receiver:
        """A running receiver that finds its ports and its data again when it is restarted."""
        text = config(
            redis_url,
            f'issuer = "{self.provider.issuer}"\nalgorithms = ["ES256"]\n{issuer}',
            top=f'drain = "1s"\n{top}',
            ports=(free_port(), free_port()),
        )
        receiver = Receiver(self.directory / name, text, env, program)
        self._stack.callback(receiver.stop, signal.SIGKILL)
        return receiver.start()

    def load(self, *receivers: Receiver, draw: Any = None, **options: Any) -> Load:
        """Load on these receivers; its requests count in the verdict."""
        mint = Mint(self.provider, self.random, name=f"{len(self._loads)}-")
        urls = [receiver.url for receiver in receivers]
        load = Load(urls, draw(mint) if draw else mint.draw, self.random, **options)
        self._loads.append(load)
        return load

    # -- the verdict ------------------------------------------------------------------------

    def settle(self, load: Load, url: str, *, complete: bool = True) -> None:
        """The fault is over: wait until Redis at ``url`` has everything that was acknowledged (not
        if it can never be ``complete``), then for some more answers of 200.
        """
        self._over_at = time.monotonic()
        owed = acknowledged(self._so_far())
        if complete and not self._missing(url, owed, CATCH_UP_SECONDS):
            self._caught_up = time.monotonic() - self._over_at
        load.more_of(60, 200)

    def judge(
        self,
        fault: str,
        url: str,
        *,
        tolerated: Collection[str] = (),
        owed: Collection[SentToken] = (),
        may_lose: int = 0,
        **notes: Any,
    ) -> Verdict:
        """Query Redis at ``url`` and assert what must hold under every fault.

        ``tolerated`` are reasons for which valid tokens may have been refused, ``owed`` are tokens
        that must be there although none of them got 200, and ``may_lose`` is the number of logouts
        that a damaged disk may have cost.
        """
        verdict = Verdict(fault=fault, seed=self.seed, notes=notes, caught_up=self._caught_up)
        entries = self._so_far()
        count_answers(verdict, entries, tolerated)
        verdict.lag = max(load.lag for load in self._loads)
        verdict.first_200 = self._first_200(entries)
        due = [*acknowledged(entries), *owed]
        verdict.lost = len(self._missing(url, due, LAST_SECONDS, may_lose))
        state = RedisState(url)
        verdict.wrongly_dead = state.dead(survivors(entries))
        verdict.duplicates = state.duplicates()
        self._record(verdict)
        assert verdict.acknowledged, verdict
        assert verdict.lost <= may_lose, verdict
        assert verdict.wrongly_dead == 0, verdict
        assert verdict.wrong_answers == 0, wrong_answers(entries, tolerated)
        assert verdict.first_200 is not None, verdict
        assert verdict.slowest < SLOWEST_ANSWER + LAGS * verdict.lag, verdict
        return verdict

    def _missing(
        self, url: str, wanted: Sequence[SentToken], seconds: float, max_missing: int = 0
    ) -> Sequence[SentToken]:
        """Poll until ``max_missing`` or fewer are missing. Returns those that still are."""
        began, state = time.monotonic(), RedisState(url)
        while True:
            missing = state.missing(wanted)
            if missing is not None and len(missing) <= max_missing:
                return missing
            if time.monotonic() - began > seconds:
                return wanted if missing is None else missing
            time.sleep(0.1)

    def _so_far(self) -> list[Entry]:
        return [entry for load in self._loads for entry in list(load.entries)]

    def _first_200(self, entries: list[Entry]) -> float | None:
        ends = [
            entry.began + entry.seconds - self._over_at
            for entry in entries
            if entry.began >= self._over_at and entry.answer.status == 200
        ]
        return min(ends, default=None)
