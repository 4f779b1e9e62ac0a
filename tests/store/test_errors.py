"""Errors of Redis 6.2, 7 and Valkey, and which of four reactions each one requires."""

import pytest
import redis.exceptions as errors

from app.store.errors import (
    AppForbidden,
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
    # -- the connection
    (TimeoutError(), RedisAway, "timeout"),
    (errors.TimeoutError("Timeout reading from socket"), RedisAway, "TimeoutError"),
    (errors.ConnectionError("Error 111 connecting"), RedisAway, "ConnectionError"),
    (errors.MaxConnectionsError("Too many connections"), RedisAway, "MaxConnectionsError"),
    (errors.BusyLoadingError("Redis is loading"), RedisAway, "BusyLoadingError"),
    (errors.ClusterDownError("CLUSTERDOWN Hash slot not served"), RedisAway, "ClusterDownError"),
    (errors.MovedError("3999 127.0.0.1:6381"), RedisAway, "MovedError"),
    (errors.TryAgainError("Multiple keys request"), RedisAway, "TryAgainError"),
    (errors.SlotNotCoveredError("no primary"), RedisAway, "SlotNotCoveredError"),
    (errors.RedisClusterException("no node answers"), RedisAway, "RedisClusterException"),
    (errors.NoScriptError("No matching script"), RedisAway, "NoScriptError"),
    (OSError(113, "No route to host"), RedisAway, "OSError"),
    (errors.RedisError("?"), RedisAway, "RedisError"),
    # -- no writes at all
    (errors.OutOfMemoryError("command not allowed when used memory"), RedisUnwilling, "OOM"),
    (errors.ReadOnlyError("You can't write against a read only"), RedisUnwilling, "READONLY"),
    (errors.AuthenticationError("WRONGPASS"), RedisUnwilling, "AuthenticationError"),
    (errors.AuthenticationError("NOAUTH Authentication"), RedisUnwilling, "AuthenticationError"),
    (errors.ResponseError("MISCONF Redis is configured to save"), RedisUnwilling, "MISCONF"),
    (errors.ResponseError("NOREPLICAS Not enough good replicas"), RedisUnwilling, "NOREPLICAS"),
    (errors.ResponseError("BUSY Redis is busy running a script"), RedisUnwilling, "BUSY"),
    (errors.ResponseError("UNKILLABLE Sorry the script"), RedisUnwilling, "UNKILLABLE"),
    *[
        (errors.ResponseError(f"{IN_SCRIPT}@user_script:68: @user_script: 68: {text}"), kind, word)
        for text, kind, word in [
            ("-OOM command not allowed when used memory > 'maxmemory'.", RedisUnwilling, "OOM"),
            ("-MISCONF Redis is configured to save RDB", RedisUnwilling, "MISCONF"),
            ("-READONLY You can't write against a read only", RedisUnwilling, "READONLY"),
            ("-NOREPLICAS Not enough good replicas to write.", RedisUnwilling, "NOREPLICAS"),
            ("-LOADING Redis is loading the dataset", RedisUnwilling, "LOADING"),
            ("The user executing the script can't run this command", AppForbidden, "NOPERM"),
            ("The user executing the script can't access at least one of the keys",
             AppForbidden, "NOPERM"),
            ("WRONGTYPE Operation against a key", RevocationRefused, "ERR"),
        ]
    ],
    # -- no writes of this app
    (errors.NoPermissionError("this user has no permissions"), AppForbidden, "NOPERM"),
    # -- this write, on its own account
    (errors.ResponseError("WRONGTYPE Operation against a key"), RevocationRefused, "WRONGTYPE"),
    (errors.ResponseError("ERR bcl argument 1"), RevocationRefused, "ERR"),
    (errors.ResponseError("something in lower case"), RevocationRefused, "ResponseError"),
    (errors.ResponseError("BUSYGROUP Consumer Group name"), RevocationRefused, "BUSYGROUP"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "kind", "word"), CASES, ids=lambda case: str(case)[:60])
def test_an_error_has_one_kind_and_one_code(
    error: Exception, kind: type[RedisFault], word: str
) -> None:
    fault = fault_of(error)
    assert (type(fault), str(fault)) == (kind, word)
    assert fault_of(fault) is fault


@pytest.mark.parametrize(("error", "kind", "word"), CASES, ids=lambda case: str(case)[:60])
def test_a_failed_pipeline_blames_no_revocation(
    error: Exception, kind: type[RedisFault], word: str
) -> None:
    """A revocation that is refused on its own account is set aside, and not retried; and the
    fault of one app holds up no other."""
    fault = fault_of_exchange(error)
    expected = RedisUnwilling if kind in (AppForbidden, RevocationRefused) else kind
    assert (type(fault), str(fault)) == (expected, word)


def test_a_missed_durability_level_keeps_the_scripts_answer() -> None:
    assert LevelNotReached("fsync_0_of_1", 2).answer == 2
