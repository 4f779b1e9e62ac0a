"""What Redis, or the way to it, said: in three kinds, for three ways to go on.

    RedisAway         not reached, or not in time: the next attempt may succeed
    RedisUnwilling    reached, but it takes no writes now: full, a replica, a failing disk, ...
    LevelNotReached   written, but not as durably as the settings demand
    RevocationRefused reached, and this one revocation can not be written: others can

Each holds one stable word, and nothing of the data.
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
"""What an exchange with Redis may raise."""


class RedisFault(Exception):
    """Redis has not acknowledged a write. The text is one word, such as ``OOM``."""


class RedisAway(RedisFault):
    """Not reached, or no answer in time. It may have been written or not."""


class RedisUnwilling(RedisFault):
    """It takes no writes now, from nobody."""


class LevelNotReached(RedisFault):
    """Written, but not yet as durable as ``durability`` demands. ``answer``: the script's."""

    def __init__(self, word: str, answer: int = 0) -> None:
        super().__init__(word)
        self.answer = answer


WAITAOF_MISSING = "WAITAOF needs Redis 7.2 or later, or Valkey"
NO_FILE_TO_SYNC = "WAITAOF needs an append-only file; set appendonly yes"


class RevocationRefused(RedisFault):
    """This one can not be written, for its own sake: a key of the app has a wrong type, say."""


# A Cluster client says in its own way that no server answers. A slot that moves is reached
# once the topology was looked up anew.
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
    NoScriptError,  # the one that was to bring the script along has failed
    TimeoutError,
    OSError,
)
_UNWILLING = (OutOfMemoryError, ReadOnlyError, NoPermissionError, AuthenticationError)

# As Redis 6.2 and 7 say it from within a script, where the library knows no class for it.
_UNWILLING_WORDS = re.compile(
    r"\b(OOM|MISCONF|READONLY|BUSY|NOREPLICAS|NOPERM|NOAUTH|WRONGPASS|UNKILLABLE|UNBLOCKED|"
    r"CLUSTERDOWN|MASTERDOWN|LOADING|TRYAGAIN)\b|can't run this command|can't access"
)


def fault_of(error: BaseException) -> RedisFault:
    """The kind of fault that an error of the library or of the network is."""
    if isinstance(error, RedisFault):
        return error
    if isinstance(error, _AWAY) and not isinstance(error, AuthenticationError):
        return RedisAway("timeout" if isinstance(error, TimeoutError) else type(error).__name__)
    if isinstance(error, _UNWILLING):
        return RedisUnwilling(_WORDS.get(type(error), type(error).__name__))
    if word := _UNWILLING_WORDS.search(str(error)):
        return RedisUnwilling(word[1] or "NOPERM")
    if isinstance(error, ResponseError):
        first = str(error).partition(" ")[0]
        known = first.isalpha() and first.isupper()
        return RevocationRefused(first if known else type(error).__name__)
    return RedisAway(type(error).__name__)


def level_fault(error: BaseException) -> str:
    """Why Redis refused ``WAIT`` or ``WAITAOF``, in words for operators where we have them."""
    text = str(error).lower()
    if "unknown command" in text:
        return WAITAOF_MISSING
    if "appendonly is disabled" in text:
        return NO_FILE_TO_SYNC
    return str(fault_of(error))


def fault_of_exchange(error: BaseException) -> RedisFault:
    """`fault_of` where the whole exchange has failed, which is no revocation's own fault: the
    server refuses the connection's database number, say."""
    fault = fault_of(error)
    return RedisUnwilling(str(fault)) if isinstance(fault, RevocationRefused) else fault


_WORDS: dict[type[BaseException], str] = {
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
    NoPermissionError: "NOPERM",
}
