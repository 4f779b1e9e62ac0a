"""Spans of a trace, for who wants them: where traces are off, this does nothing.

    with span("keys.fetch", issuer=name):

A span says what was done, for which issuer, how long it took, and in a word why it failed. Nothing
of a token or a user belongs here, nor an exception's own words. `app.telemetry.traces` switches it
on.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from app.errors import DependencyUnavailable, TokenRefused

PREFIX = "bcl."
"""Before the names of attributes that no convention knows."""

_NOTHING: AbstractContextManager[Any] = contextlib.nullcontext()

_tracer: Any = None


def switch(tracer: Any) -> None:
    """Make spans with this tracer of OpenTelemetry from now on; None for none."""
    global _tracer  # noqa: PLW0603  one for a process, as its spans all go one way
    _tracer = tracer


def span(name: str, **attributes: str) -> AbstractContextManager[Any]:
    """A span for as long as the block lasts, below the one that it is in."""
    return _NOTHING if _tracer is None else _span(name, attributes)


@contextlib.contextmanager
def _span(name: str, attributes: dict[str, str]) -> Iterator[Any]:
    with _tracer.start_as_current_span(
        name,
        attributes={PREFIX + key: value for key, value in attributes.items()},
        record_exception=False,
        set_status_on_exception=False,
    ) as one:
        try:
            yield one
        except BaseException as error:
            ours = isinstance(error, TokenRefused | DependencyUnavailable)
            one.set_attribute("error.type", str(error) if ours else type(error).__qualname__)
            raise
