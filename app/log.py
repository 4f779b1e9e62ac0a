"""Loggers for events with fields.

    log = new_log(__name__)
    log.warning("keys", outcome="failed", issuer=name, error=code)

The event names the subject, ``outcome`` the result, and the other fields are facts; fields that are
None are left out. Tokens, secrets and users must not be logged.

Events pass through the standard library's logging, as records whose message is the event's dict;
`app.telemetry.logs.setup` configures their format and destination.
"""

import logging

from structlog.stdlib import BoundLogger, ProcessorFormatter


def new_log(name: str) -> BoundLogger:
    """The logger of the module ``name``.

    structlog's own ``get_logger`` writes to standard output until it is configured.
    """
    return BoundLogger(logging.getLogger(name), [ProcessorFormatter.wrap_for_formatter], {})
