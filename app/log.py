"""What our modules say of what happens: an event with fields.

    log = new_log(__name__)
    log.warning("keys", outcome="failed", issuer=name, error=code)

The event is what it is about, ``outcome`` what has become of it; the rest are facts. A field that
is None is not told. Nothing of a token, a secret or a user belongs here.

It goes the way of the standard library's logging, as a record whose message is the event's dict;
where lines go and what they look like is said once for a process (`app.telemetry.logs.setup`).
"""

import logging

from structlog.stdlib import BoundLogger, ProcessorFormatter


def new_log(name: str) -> BoundLogger:
    """The logger of the module called ``name``.

    Not structlog's own ``get_logger``: where nobody has set that up, it writes to standard output.
    """
    return BoundLogger(logging.getLogger(name), [ProcessorFormatter.wrap_for_formatter], {})
