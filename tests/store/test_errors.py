"""What Redis 6.2, 7 and Valkey say, and which of three ways to go on it means."""

import pytest
import redis.exceptions as said

from app.store.errors import (
    LevelNotReached,
    RedisAway,
    RedisFault,
    RedisUnwilling,
    RevocationRefused,
    fault_of,
    fault_of_exchange,
)

IN_SCRIPT = "ERR Error running script (call to f_e0e1f9fabfc9d4800c877a703b823ac0578ff8db): "
"""How Redis 6.2 begins what a command within a script has said."""

CASES: list[tuple[Exception, type[RedisFault], str]] = [
    # -- the way there
    (TimeoutError(), RedisAway, "timeout"),
    (said.TimeoutError("Timeout reading from socket"), RedisAway, "TimeoutError"),
    (said.ConnectionError("Error 111 connecting"), RedisAway, "ConnectionError"),
    (said.MaxConnectionsError("Too many connections"), RedisAway, "MaxConnectionsError"),
    (said.BusyLoadingError("Redis is loading"), RedisAway, "BusyLoadingError"),
    (said.ClusterDownError("CLUSTERDOWN Hash slot not served"), RedisAway, "ClusterDownError"),
    (said.MovedError("3999 127.0.0.1:6381"), RedisAway, "MovedError"),
    (said.TryAgainError("Multiple keys request"), RedisAway, "TryAgainError"),
    (said.SlotNotCoveredError("no primary"), RedisAway, "SlotNotCoveredError"),
    (said.RedisClusterException("no node answers"), RedisAway, "RedisClusterException"),
    (said.NoScriptError("No matching script"), RedisAway, "NoScriptError"),
    (OSError(113, "No route to host"), RedisAway, "OSError"),
    (said.RedisError("?"), RedisAway, "RedisError"),
    # -- it takes no writes at all
    (said.OutOfMemoryError("command not allowed when used memory"), RedisUnwilling, "OOM"),
    (said.ReadOnlyError("You can't write against a read only"), RedisUnwilling, "READONLY"),
    (said.NoPermissionError("this user has no permissions"), RedisUnwilling, "NOPERM"),
    (said.AuthenticationError("WRONGPASS"), RedisUnwilling, "AuthenticationError"),
    (said.AuthenticationError("NOAUTH Authentication"), RedisUnwilling, "AuthenticationError"),
    (said.ResponseError("MISCONF Redis is configured to save"), RedisUnwilling, "MISCONF"),
    (said.ResponseError("NOREPLICAS Not enough good replicas"), RedisUnwilling, "NOREPLICAS"),
    (said.ResponseError("BUSY Redis is busy running a script"), RedisUnwilling, "BUSY"),
    (said.ResponseError("UNKILLABLE Sorry the script"), RedisUnwilling, "UNKILLABLE"),
    *[
        (said.ResponseError(f"{IN_SCRIPT}@user_script:68: @user_script: 68: {text}"), kind, word)
        for text, kind, word in [
            ("-OOM command not allowed when used memory > 'maxmemory'.", RedisUnwilling, "OOM"),
            ("-MISCONF Redis is configured to save RDB", RedisUnwilling, "MISCONF"),
            ("-READONLY You can't write against a read only", RedisUnwilling, "READONLY"),
            ("-NOREPLICAS Not enough good replicas to write.", RedisUnwilling, "NOREPLICAS"),
            ("-LOADING Redis is loading the dataset", RedisUnwilling, "LOADING"),
            ("The user executing the script can't run this command", RedisUnwilling, "NOPERM"),
            ("The user executing the script can't access at least one of the keys",
             RedisUnwilling, "NOPERM"),
            ("WRONGTYPE Operation against a key", RevocationRefused, "ERR"),
        ]
    ],
    # -- this one, for its own sake
    (said.ResponseError("WRONGTYPE Operation against a key"), RevocationRefused, "WRONGTYPE"),
    (said.ResponseError("ERR bcl argument 1"), RevocationRefused, "ERR"),
    (said.ResponseError("something in lower case"), RevocationRefused, "ResponseError"),
    (said.ResponseError("BUSYGROUP Consumer Group name"), RevocationRefused, "BUSYGROUP"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "kind", "word"), CASES, ids=lambda case: str(case)[:60])
def test_an_error_is_of_one_kind_and_has_one_word(
    error: Exception, kind: type[RedisFault], word: str
) -> None:
    fault = fault_of(error)
    assert (type(fault), str(fault)) == (kind, word)
    assert fault_of(fault) is fault


@pytest.mark.parametrize(("error", "kind", "word"), CASES, ids=lambda case: str(case)[:60])
def test_where_the_whole_exchange_has_failed_no_revocation_is_to_blame(
    error: Exception, kind: type[RedisFault], word: str
) -> None:
    """A revocation that is refused on its own account is set aside, and not retried."""
    fault = fault_of_exchange(error)
    expected = RedisUnwilling if kind is RevocationRefused else kind
    assert (type(fault), str(fault)) == (expected, word)


def test_a_level_that_was_missed_keeps_the_answer_of_the_script() -> None:
    assert LevelNotReached("fsync_0_of_1", 2).answer == 2
