"""The log of `serve`: a line for each token, at the price of a line.

The standard way takes as long for it as half a signature: it looks for the caller's line, the
thread and the process, and spells the time anew.
"""

import logging
import sys
import time

# What our format does not show need not be found out ("Optimization" in Python's Logging HOWTO).
_NOT_SHOWN = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")


def log_to_stderr() -> None:
    """Set up the log of this process."""
    handler = LineHandler()
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in _NOT_SHOWN:
        setattr(logging, name, None)
    # The libraries tell of each request, with its URL; we tell of each token.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its warnings are of broken requests: anybody could fill the log with them.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)


class LineFormatter(logging.Formatter):
    """What the standard one says of the same format, with the second spelled once."""

    _second = -1
    _spelled = ""

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or record.stack_info:
            return super().format(record)
        second = int(record.created)
        if second != self._second:
            self._spelled = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._second = second
        head = f"{self._spelled},{int(record.msecs):03d} {record.levelname} {record.name} "
        return head + record.getMessage()


class LineHandler(logging.Handler):
    """One write for each line, before its answer: who was told 200 is in the log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # With its end in one call: lines of several processes stay whole, and standard error
            # hands each line on by itself.
            sys.stderr.write(self.format(record) + "\n")
        except (TypeError, ValueError):  # arguments that do not fit their text
            self.handleError(record)
