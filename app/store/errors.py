"""Faults of Redis, by what to do next.

    RedisAway          not reached, or not in time: the next attempt may succeed
    RedisUnwilling     takes no writes now: full, a replica, a failing disk, ...
    AppForbidden       takes no writes of this app now, but those of others
    LevelNotReached    written, but below the required durability
    RevocationRefused  this revocation cannot be written, others can

Each has one stable word as its text, and nothing of the data.
"""

import re

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MaxConnectionsError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

EXCHANGE_FAULTS = (RedisError, RedisClusterException, TimeoutError, OSError)
"""The errors that an exchange with Redis can raise."""


class RedisFault(Exception):
    """Redis has not acknowledged a write. The text is one word, such as ``OOM``."""


class RedisAway(RedisFault):
    """Not reached, or no answer in time. The write may have happened or not."""


class RedisUnwilling(RedisFault):
    """Redis takes no writes now."""


class AppForbidden(RedisUnwilling):
    """The receiver's Redis user may not write this app's keys."""


class LevelNotReached(RedisFault):
    """Written, but below the level of ``durability``. ``answer`` is the script's."""

    def __init__(self, word: str, answer: int = 0) -> None:
        super().__init__(word)
        self.answer = answer


WAITAOF_MISSING = "WAITAOF needs Redis 7.2 or later, or Valkey"
NO_FILE_TO_SYNC = "WAITAOF needs an append-only file; set appendonly yes"


class RevocationRefused(RedisFault):
    """This one cannot be written on its own account: a key of the app has a wrong type, say."""


# The Cluster client has its own error for a server that does not answer. A slot that moves is
# reached after the topology has been looked up again.
_AWAY = (
    RedisConnectionError,
    RedisTimeoutError,
    RedisClusterException,
    BusyLoadingError,
    TryAgainError,
    ClusterDownError,
    MasterDownError,
    MovedError,  # and AskError, which is one
    MaxConnectionsError,
    NoScriptError,  # the command that loads the script has failed
    TimeoutError,
    OSError,
)
_UNWILLING = (OutOfMemoryError, ReadOnlyError, AuthenticationError)

# The words of Redis 6.2 and 7 inside a script, for which the library has no class.
_UNWILLING_WORDS = re.compile(
    r"\b(OOM|MISCONF|READONLY|BUSY|NOREPLICAS|NOAUTH|WRONGPASS|UNKILLABLE|UNBLOCKED|"
    r"CLUSTERDOWN|MASTERDOWN|LOADING|TRYAGAIN)\b"
)
_FORBIDDEN_WORDS = re.compile(r"\bNOPERM\b|can't run this command|can't access")


def fault_of(error: BaseException) -> RedisFault:
    """Classify an error of the library or the network."""
    if isinstance(error, RedisFault):
        return error
    if isinstance(error, _AWAY) and not isinstance(error, AuthenticationError):
        return RedisAway("timeout" if isinstance(error, TimeoutError) else type(error).__name__)
    if isinstance(error, _UNWILLING):
        return RedisUnwilling(_WORDS.get(type(error), type(error).__name__))
    if isinstance(error, NoPermissionError) or _FORBIDDEN_WORDS.search(str(error)):
        return AppForbidden("NOPERM")
    if word := _UNWILLING_WORDS.search(str(error)):
        return RedisUnwilling(word[1])
    if isinstance(error, ResponseError):
        first = str(error).partition(" ")[0]
        known = first.isalpha() and first.isupper()
        return RevocationRefused(first if known else type(error).__name__)
    return RedisAway(type(error).__name__)


def level_fault(error: BaseException) -> str:
    """Explain to operators why Redis refused ``WAIT`` or ``WAITAOF``."""
    text = str(error).lower()
    if "unknown command" in text:
        return WAITAOF_MISSING
    if "appendonly is disabled" in text:
        return NO_FILE_TO_SYNC
    return str(fault_of(error))


def fault_of_exchange(error: BaseException) -> RedisFault:
    """Classify an error of the whole exchange, which is never the fault of one revocation or app.

    The server refuses the connection's database number, say.
    """
    fault = fault_of(error)
    single = isinstance(fault, RevocationRefused | AppForbidden)
    return RedisUnwilling(str(fault)) if single else fault


_WORDS: dict[type[BaseException], str] = {
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
}
