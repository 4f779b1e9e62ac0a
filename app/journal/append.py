"""One entry on its way into the journal, and whoever waits for it."""

import asyncio
from dataclasses import dataclass


class JournalFault(Exception):
    """The journal has not taken an entry. The text is one word: ``full`` or ``disk``."""


@dataclass(slots=True, eq=False)
class Append:
    key: str
    accepted_at: float
    record: bytes
    refused: str | None
    done: asyncio.Future[bool]

    def settle(self, result: bool | str) -> None:
        if self.done.done():
            return
        if isinstance(result, str):
            self.done.set_exception(JournalFault(result))
        else:
            self.done.set_result(result)
