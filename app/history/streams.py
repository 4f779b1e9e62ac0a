"""Walks through a stream, backward or forward, within bounds: one page per round trip."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from app.history.app_reader import Command, required, text

PAGE = 500
"""Entries per round trip. Redis serves no other client for about a millisecond."""

Fields = Mapping[bytes, bytes]
Entry = tuple[str, Fields]
RunCommands = Callable[[Sequence[Command]], Awaitable[list[Any]]]


def newest_first(
    ask: RunCommands, key: str, *, before: str = "+", limit: int
) -> AsyncIterator[list[Entry]]:
    """Pages backward from ``before`` (an id, exclusive); ``limit`` entries in all."""
    start = before if before == "+" else f"({before}"
    return _pages(ask, "XREVRANGE", key, start, "-", limit)


def oldest_first(
    ask: RunCommands, key: str, *, since: str, limit: int
) -> AsyncIterator[list[Entry]]:
    """Pages forward from ``since`` (an id, inclusive); ``limit`` entries in all."""
    return _pages(ask, "XRANGE", key, since, "+", limit)


async def _pages(
    ask: RunCommands, command: str, key: str, start: str, end: str, limit: int
) -> AsyncIterator[list[Entry]]:
    while limit > 0:
        (answer,) = await ask([(command, key, start, end, "COUNT", min(PAGE, limit))])
        page = parse_entries(required(answer))
        if not page:
            return
        yield page
        limit -= len(page)
        start = f"({page[-1][0]}"


def parse_entries(answer: Any) -> list[Entry]:
    """The entries of an ``XRANGE`` answer, with ids as text, without deleted entries."""
    return [(text(entry_id), fields) for entry_id, fields in answer or [] if fields]


def parse_raw_entries(answer: Any) -> list[Entry]:
    """`parse_entries` for an answer in Redis' own form, not parsed by the library."""
    return parse_entries(
        (entry_id, dict(zip(fields[::2], fields[1::2], strict=True)) if fields else None)
        for entry_id, fields in answer or []
    )


def entry_seconds(entry_id: str) -> float:
    """When Redis stored the entry, in epoch seconds."""
    return int(entry_id.partition("-")[0]) / 1000
