"""The results of a canary's try: log field and metric label."""

from enum import StrEnum


class CanaryOutcome(StrEnum):
    """The result of one try."""

    OK = "ok"
    UNREACHABLE = "unreachable"
    """`listen` did not answer in time."""
    REFUSED = "refused"
    """The answer was neither 200 nor 503."""
    UNAVAILABLE = "unavailable"
    """503: neither Redis nor the journal could store it."""
    NO_MARKER = "no_marker"
    """200, but no marker in Redis in time; the journal may have it."""
    NO_RECEIPT = "no_receipt"
    """The canary's listener did not handle it in time."""
