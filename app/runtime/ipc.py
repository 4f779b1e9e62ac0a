"""What parent and worker say to each other, over a pair of sockets that nobody else has.

    parent -> worker   its assignment (settings and all), once; then a line for each question
    worker -> parent   a line when it serves; then its state as JSON, a line for each question

The end of the channel is the end of the other side: a worker whose parent is gone stops.
"""

import asyncio
import json
import pickle
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from app.config.model import Settings

State = dict[str, Any]
"""What a worker says of itself, as JSON values: see `app.runtime.worker`."""

_SERVING = b"serving\n"
_QUESTION = b"state\n"
_LENGTH_BYTES = 4

# A state names every issuer; some hundred bytes each.
_LONGEST_LINE = 16 << 20


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is to do. ``index`` counts from 0 and stays when it is started again."""

    index: int
    settings: Settings
    redis_url: str

    @property
    def run_dir(self) -> Path:
        """A directory for what this worker leaves for others while it runs."""
        return self.settings.data_dir / "run" / f"worker-{self.index}"


class Channel:
    """One end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._asked: asyncio.Task[State | None] | None = None

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        return cls(*await asyncio.open_connection(sock=end, limit=_LONGEST_LINE))

    def close(self) -> None:
        self._writer.close()

    # -- the parent's end -----------------------------------------------------------------

    def hand_over(self, assignment: Assignment) -> None:
        """The first thing to say. Pickled: it never leaves this program and this machine."""
        pickled = pickle.dumps(assignment)
        self._writer.write(len(pickled).to_bytes(_LENGTH_BYTES) + pickled)

    async def serving(self) -> bool:
        """Wait until the worker serves. False when it has ended before that."""
        return await self._reader.readline() == _SERVING

    async def ask(self, seconds: float) -> State | None:
        """The worker's state; None when it does not answer within ``seconds``, or is gone.

        One question at a time: who comes meanwhile shares its answer, also when those who asked
        have given up.
        """
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._exchange())
        asked = self._asked
        await asyncio.wait({asked}, timeout=seconds)
        return asked.result() if asked.done() else None

    async def _exchange(self) -> State | None:
        try:
            self._writer.write(_QUESTION)
            line = await self._reader.readline()
            return json.loads(line) if line else None
        except (ConnectionError, ValueError):  # the latter: it died in the middle of its line
            return None

    # -- the worker's end -----------------------------------------------------------------

    async def assignment(self) -> Assignment:
        """Wait for it. Raises ``EOFError`` when the parent is gone."""
        length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
        pickled = await self._reader.readexactly(length)
        assignment: Assignment = pickle.loads(pickled)  # noqa: S301  our parent's
        return assignment

    def say_serving(self) -> None:
        self._writer.write(_SERVING)

    async def question(self) -> bool:
        """Wait for one. False when the parent is gone."""
        try:
            return bool(await self._reader.readline())
        except ConnectionError:
            return False

    def answer(self, state: State) -> None:
        self._writer.write(json.dumps(state).encode() + b"\n")
