"""A bounded walk back, or on, through a stream, a page for each round trip."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from app.history.app_reader import Command, required, text

PAGE = 500
"""Entries for each round trip: about a millisecond of Redis, in which nobody else is served."""

Fields = Mapping[bytes, bytes]
Entry = tuple[str, Fields]
RunCommands = Callable[[Sequence[Command]], Awaitable[list[Any]]]


async def newest_first(
    ask: RunCommands, key: str, *, before: str = "+", most: int
) -> AsyncIterator[list[Entry]]:
    """Pages from ``before`` (an id, exclusive) back; ``most`` entries in all."""
    last, left = before if before == "+" else f"({before}", most
    while left > 0:
        (answer,) = await ask([("XREVRANGE", key, last, "-", "COUNT", min(PAGE, left))])
        page = parse_entries(required(answer))
        if not page:
            return
        yield page
        left -= len(page)
        last = f"({page[-1][0]}"


async def oldest_first(
    ask: RunCommands, key: str, *, since: str, most: int
) -> AsyncIterator[list[Entry]]:
    """Pages from ``since`` (an id, inclusive) on; ``most`` entries in all."""
    first, left = since, most
    while left > 0:
        (answer,) = await ask([("XRANGE", key, first, "+", "COUNT", min(PAGE, left))])
        page = parse_entries(required(answer))
        if not page:
            return
        yield page
        left -= len(page)
        first = f"({page[-1][0]}"


def parse_entries(answer: Any) -> list[Entry]:
    """The entries of an ``XRANGE``, with their ids as text, without those that were deleted."""
    return [(text(entry_id), fields) for entry_id, fields in answer or [] if fields]


def parse_raw_entries(answer: Any) -> list[Entry]:
    """`parse_entries` of an answer that the library has left as Redis spells it."""
    return parse_entries(
        (entry_id, dict(zip(fields[::2], fields[1::2], strict=True)) if fields else None)
        for entry_id, fields in answer or []
    )


def entry_seconds(entry_id: str) -> float:
    """When Redis took the entry, in epoch seconds."""
    return int(entry_id.partition("-")[0]) / 1000
