"""How a try of the canary can end. Log field and metric label."""

from enum import StrEnum


class CanaryOutcome(StrEnum):
    """What became of the canary's session."""

    OK = "ok"
    UNREACHABLE = "unreachable"
    """`listen` has not answered in time."""
    REFUSED = "refused"
    """It has answered something else than 200 or 503."""
    UNAVAILABLE = "unavailable"
    """503: neither Redis nor the journal takes it."""
    NO_MARKER = "no_marker"
    """Answered 200, and no marker in Redis in time: the journal has it, say."""
    NO_RECEIPT = "no_receipt"
    """A listener of the canary's app has not handled it in time."""
