"""One round trip to the server that holds an app, or a key outside any app's slot."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import AskError, MovedError, ResponseError

from app.publish.redis_fault import EXCHANGE_FAULTS, fault_of_exchange
from app.publish.redis_link import REDIS_SECONDS, RedisLink

Command = tuple[str | int, ...]


class Unreadable(Exception):
    """Redis has not answered, or refuses; the text is one word, such as ``timeout``."""


class Reading:
    """``link`` says which server; each exchange has `REDIS_SECONDS`."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    async def of_app(self, app: str, commands: Sequence[Command]) -> list[Any]:
        """The answer to each, where the app is; an answer may be a ``ResponseError``.

        Raises `Unreadable` when there was no exchange.
        """
        return await self._ask(lambda: self.link.primary(app), commands)

    async def of_key(self, key: str, commands: Sequence[Command]) -> list[Any]:
        """`of_app`, where this key is."""
        return await self._ask(lambda: self.link.holder(key), commands)

    async def _ask(
        self, server: Callable[[], Awaitable[Redis]], commands: Sequence[Command]
    ) -> list[Any]:
        for _ in range(2):  # a slot that has moved is elsewhere at the second try
            try:
                async with asyncio.timeout(REDIS_SECONDS):
                    pipeline = (await server()).pipeline(transaction=False)
                    for command in commands:
                        pipeline.execute_command(*command)
                    answers: list[Any] = await pipeline.execute(raise_on_error=False)
            except EXCHANGE_FAULTS as error:
                raise Unreadable(str(fault_of_exchange(error))) from error
            moved = [one for one in answers if isinstance(one, MovedError | AskError)]
            if not moved:
                return answers
            await self.link.look_up_soon()
        raise Unreadable(type(moved[0]).__name__)


def needed(answer: Any) -> Any:
    """An answer that nothing can do without. Raises `Unreadable` where Redis refuses it."""
    if isinstance(answer, Exception):
        raise Unreadable(str(fault_of_exchange(answer))) from answer
    return answer


def optional(answer: Any) -> Any:
    """An answer, or None where Redis refuses it: no such key, say, or no right to it."""
    return None if isinstance(answer, ResponseError) else needed(answer)


def text(value: bytes | str) -> str:
    """What Redis holds, as text; bytes that are none are spelled out."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
