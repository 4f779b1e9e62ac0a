"""Ends the embedded server of a killed receiver, so that it does not outlive the demo."""

import asyncio
import contextlib
import fcntl
import os
import signal
import time
from pathlib import Path

_SECONDS = 10.0
_PAUSE = 0.05


async def end_orphan(data_dir: Path) -> None:
    """Ends the server of ``data_dir`` if it still runs, and waits for its end.

    It holds ``server.lock`` while it runs and writes ``server.pid`` soon after its start; see
    `app.devtools.embedded_redis`.
    """
    deadline = time.monotonic() + _SECONDS
    while _is_locked(data_dir / "server.lock") and time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            pid = int((data_dir / "server.pid").read_text("ascii"))
            if pid > 0:  # anything else would signal whole groups
                os.kill(pid, signal.SIGTERM)
        await asyncio.sleep(_PAUSE)


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
