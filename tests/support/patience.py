"""Lets tests survive that Redis pauses, where they are not about that."""

import pytest

from app.history import app_reader
from app.store import store, topology

PATIENCE = 30.0
"""Seconds to wait for Redis: a busy machine may pause for longer than our defaults."""


def wait_patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver's reads and writes in the test's own process have this time."""
    for module in (app_reader, store, topology):
        monkeypatch.setattr(module, "REDIS_SECONDS", PATIENCE)
