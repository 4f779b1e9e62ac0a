"""Reads from the Redis server that holds an app, or a key outside any app's slot.

Reads take turns, so that any number of pages never needs more connections than the pool has.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AskError, MovedError, ResponseError

from app.store.app_sizes import BEYOND_ANSWER, size_commands, sizes_of
from app.store.command import packed
from app.store.errors import EXCHANGE_FAULTS, fault_of_exchange
from app.store.topology import REDIS_SECONDS, RedisTopology
from backchannel_logout import AppKeys
from backchannel_logout.redis.internals import AnswerTooLarge
from backchannel_logout.redis.pipeline import reused_pipelines

Command = tuple[str | bytes | int, ...]

# Per round trip of `query_keys`: a millisecond or two of the event loop.
_COMMANDS_PER_EXCHANGE = 100


# How long an app's sizes are cached, in seconds; and how long an app is skipped after an answer
# that was too large.
_SIZES_MAX_AGE = 1.0
_TOO_LARGE_MAX_AGE = 60.0


class Unreadable(Exception):
    """Redis did not answer, or refused. The text is one word, such as ``timeout``."""


class TooLarge(Unreadable):
    """The app has written too much to be read; the text names what."""


class AppReader:
    """``link`` finds the server. Each exchange has `REDIS_SECONDS`."""

    def __init__(self, link: RedisTopology) -> None:
        self.link = link
        self._beyond: dict[str, tuple[float, str | None]] = {}

    async def query_app_data(self, app: str, commands: Sequence[Command]) -> list[Any]:
        """`query_app`, for data that the app itself writes, which can have any size.

        Raises `TooLarge`, without the query, for an app beyond the bounds.
        """
        now = time.monotonic()
        until, beyond = self._beyond.get(app, (now, None))
        try:
            if until <= now:
                sizes = await self.query_app(app, size_commands(AppKeys(app)))
                beyond = sizes_of(sizes).beyond
                self._beyond[app] = (now + _SIZES_MAX_AGE, beyond)
            if beyond is not None:
                raise TooLarge(beyond)
            return await self.query_app(app, commands)
        except Unreadable as fault:
            if isinstance(fault.__cause__, AnswerTooLarge):
                self._beyond[app] = (now + _TOO_LARGE_MAX_AGE, BEYOND_ANSWER)
                raise TooLarge(BEYOND_ANSWER) from fault
            raise

    async def query_app(self, app: str, commands: Sequence[Command]) -> list[Any]:
        """Run commands on the app's server; an answer can be a ``ResponseError``.

        Raises `Unreadable` when there was no exchange.
        """
        return await self._ask(lambda: self.link.primary(app), commands)

    async def query_key(self, key: str, commands: Sequence[Command]) -> list[Any]:
        """`query_app`, on the server that holds this key."""
        return await self._ask(lambda: self.link.holder(key), commands)

    async def query_keys(
        self, commands: Mapping[str, Sequence[Command]]
    ) -> dict[str, "list[Any] | Unreadable"]:
        """For each key, the raw answers to its commands, or the reason why there are none.

        Takes a few round trips per server for any number of keys. Never raises for Redis.
        """
        answers_by_key = await self._exchanged(commands)
        moved = {
            key: commands[key]
            for key, answers in answers_by_key.items()
            if _moved(answers) is not None
        }
        if moved:  # a moved slot is found at the second try
            await self.link.look_up_soon()
            answers_by_key |= await self._exchanged(moved)
            for key in moved:
                if (word := _moved(answers_by_key[key])) is not None:
                    answers_by_key[key] = Unreadable(word)
        return answers_by_key

    async def _exchanged(
        self, commands: Mapping[str, Sequence[Command]]
    ) -> dict[str, list[Any] | Unreadable]:
        if self.link.only is not None:
            return await self._of_server(self.link.only, list(commands), commands)
        answers_by_key: dict[str, list[Any] | Unreadable] = {}
        servers: dict[Redis, list[str]] = {}
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                for number, key in enumerate(commands):
                    if number % _COMMANDS_PER_EXCHANGE == 0:
                        await asyncio.sleep(0)
                    servers.setdefault(await self.link.holder(key), []).append(key)
        except EXCHANGE_FAULTS as error:  # no server holds the slot, or none answers
            fault = Unreadable(str(fault_of_exchange(error)))
            known = {key for keys in servers.values() for key in keys}
            answers_by_key = {key: fault for key in commands if key not in known}
        for server, keys in servers.items():
            answers_by_key |= await self._of_server(server, keys, commands)
        return answers_by_key

    async def _of_server(
        self, server: Redis, keys: Sequence[str], commands: Mapping[str, Sequence[Command]]
    ) -> dict[str, list[Any] | Unreadable]:
        answers_by_key: dict[str, list[Any] | Unreadable] = {}
        async with self.link.turns, reused_pipelines() as following:
            for start in range(0, len(keys), _COMMANDS_PER_EXCHANGE):
                batch = keys[start : start + _COMMANDS_PER_EXCHANGE]
                encoded = [packed(*command) for key in batch for command in commands[key]]
                try:
                    answers = iter(await following.exchange(server, encoded, within=REDIS_SECONDS))
                except EXCHANGE_FAULTS as error:
                    fault = Unreadable(str(fault_of_exchange(error)))
                    return answers_by_key | dict.fromkeys(keys[start:], fault)
                answers_by_key |= {key: [next(answers) for _ in commands[key]] for key in batch}
                await asyncio.sleep(0)
        return answers_by_key

    async def _ask(
        self, server: Callable[[], Awaitable[Redis]], commands: Sequence[Command]
    ) -> list[Any]:
        for _ in range(2):  # a moved slot is found at the second try
            try:
                async with self.link.turns, asyncio.timeout(REDIS_SECONDS):
                    pipeline = (await server()).pipeline(transaction=False)
                    for command in commands:
                        pipeline.execute_command(*command)
                    answers: list[Any] = await pipeline.execute(raise_on_error=False)
            except EXCHANGE_FAULTS as error:
                raise Unreadable(str(fault_of_exchange(error))) from error
            word = _moved(answers)
            if word is None:
                return answers
            await self.link.look_up_soon()
        raise Unreadable(word or "MovedError")


def _moved(answers: "list[Any] | Unreadable") -> str | None:
    """The error's name, if an answer reports that the slot is elsewhere."""
    if isinstance(answers, Unreadable):
        return None
    errors = (answer for answer in answers if isinstance(answer, MovedError | AskError))
    return next((type(error).__name__ for error in errors), None)


def required(answer: Any) -> Any:
    """A required answer. Raises `Unreadable` if Redis refused the command."""
    if isinstance(answer, Exception):
        raise Unreadable(str(fault_of_exchange(answer))) from answer
    return answer


def optional(answer: Any) -> Any:
    """An answer, or None if Redis refused the command, for a missing key or right."""
    return None if isinstance(answer, ResponseError) else required(answer)


def whole(value: bytes | None) -> int | None:
    """A Redis value as a whole number; None for anything else."""
    return int(value) if value is not None and value.isdigit() else None


def text(value: bytes | str) -> str:
    """A Redis value as text, with invalid bytes as escapes."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
