"""Creates spans of a trace. Does nothing unless `app.telemetry.traces` has enabled it.

    with span("keys.fetch", issuer=name):

A span has a name, the issuer, a duration, and the type of an error. It must hold nothing of a token
or a user, and no exception's message.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from app.errors import DependencyUnavailable, TokenRefused

PREFIX = "bcl."
"""Prefix of attributes that are not in the semantic conventions."""

_NOTHING: AbstractContextManager[Any] = contextlib.nullcontext()

_tracer: Any = None


def switch(tracer: Any) -> None:
    """Create spans with this tracer of OpenTelemetry from now on; None disables them."""
    global _tracer  # noqa: PLW0603  one per process
    _tracer = tracer


def span(name: str, **attributes: str) -> AbstractContextManager[Any]:
    """A span for the block, child of the current one."""
    return _NOTHING if _tracer is None else _span(name, attributes)


@contextlib.contextmanager
def _span(name: str, attributes: dict[str, str]) -> Iterator[Any]:
    with _tracer.start_as_current_span(
        name,
        attributes={PREFIX + key: value for key, value in attributes.items()},
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            ours = isinstance(error, TokenRefused | DependencyUnavailable)
            current.set_attribute("error.type", str(error) if ours else type(error).__qualname__)
            raise
