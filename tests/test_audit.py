"""The audit in the log and in Redis, without ids in plain text."""

import logging
import re
from typing import Any

import pytest
import redis

from app.audit import (
    FREE_NAME,
    MAX_TEXT_LENGTH,
    Act,
    Audit,
    is_reserved,
    outcome_of,
    person_name,
)
from app.store.operator_streams import AUDIT
from app.store.topology import connect
from tests.support.servers.redis_server import RedisServer


def hashed(value: str) -> str:
    return f"hash-of-{len(value)}"


ACT = Act(
    act="session.end", who="ada", why='a "stolen"\nlaptop', outcome="done", iss="https://op.example",
    apps=["shop", "forum"], kind="session", sid="secret-sid", sub="auth0|alice",
)  # fmt: skip


async def test_an_entry_names_actor_and_action_and_the_user_by_hash_only(
    shared_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(shared_redis.url)
    with caplog.at_level(logging.INFO):
        await Audit(client, hashed, clock=lambda: 12.3456).write(ACT)
    await client.aclose()
    look: Any = shared_redis.client()
    _, fields = look.xrevrange(AUDIT, count=1)[0]
    look.close()
    assert fields == {
        "at": "12.346", "act": "session.end", "who": "ada", "why": 'a "stolen"\nlaptop',
        "outcome": "done", "iss": "https://op.example", "apps": '["shop", "forum"]',
        "kind": "session", "sid_hash": "hash-of-10", "sub_hash": "hash-of-11",
    }  # fmt: skip
    assert "secret-sid" not in caplog.text
    assert "alice" not in caplog.text
    (line,) = [one.msg for one in caplog.records if one.name == "app.audit"]
    assert line == fields | {"event": "audit"}


def test_text_from_people_is_bounded() -> None:
    audit = Audit(connect("redis://127.0.0.1:1/0"), hashed)
    assert len(audit.fields(Act(act="a", who="b", why="x" * 10_000))["why"]) == MAX_TEXT_LENGTH


def test_a_person_is_named_by_sub_and_chosen_name() -> None:
    assert person_name("auth0|42", "Ada Lovelace") == "oidc:auth0|42 (Ada Lovelace)"
    assert person_name("42", None) == "oidc:42"
    assert person_name("42", "\u202e\u200b\n") == "oidc:42"
    assert person_name("42 (Boss)", "x) oidc:1 (Boss") == "oidc:42%20%28Boss%29 (x oidc:1 Boss)"
    assert len(person_name("s" * 9999, "n" * 9999)) <= MAX_TEXT_LENGTH


@pytest.mark.parametrize("name", ["admin_token", " Admin-API ", "oidc:1 (Ada)", "\u200bOIDC:1"])
def test_a_name_that_looks_verified_is_refused(name: str) -> None:
    assert is_reserved(name)
    assert "\u200b" in name or not re.search(FREE_NAME, name)
    assert re.search(FREE_NAME, "ada, on behalf of oidc:1")
    assert not is_reserved("ada")
    assert not is_reserved("")


async def test_without_redis_the_log_line_is_still_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = connect("redis://127.0.0.1:1/0")
    with caplog.at_level(logging.INFO), pytest.raises(redis.RedisError):
        await Audit(client, hashed).write(ACT)
    await client.aclose()
    assert "'who': 'ada'" in caplog.text


@pytest.mark.parametrize(
    ("written", "outcome"),
    [
        ([True], "done"),
        ([True, True], "done"),
        ([False], "failed"),
        ([False, False], "failed"),
        ([None], "not_known"),
        ([None, True], "not_known"),  # done, or in part
        ([None, False], "not_known"),  # failed, or in part
        ([True, False], "partly"),
        ([True, None, False], "partly"),  # whatever the answer would have been
    ],
)
def test_the_outcome_is_correct_with_missing_answers(
    written: list[bool | None], outcome: str
) -> None:
    assert outcome_of(written) == outcome
