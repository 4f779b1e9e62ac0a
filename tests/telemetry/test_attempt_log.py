"""A token's one line: what it says, and that the short way says what the long way says."""

import json
import logging
import re
import time
from typing import Any

import pytest

from app.backchannel.revocations import revocations_for
from app.config.issuers import ClientSettings, IssuerSettings
from app.errors import Outage, Reason
from app.publish.writer import Written
from app.telemetry import attempt_log as story_module
from app.telemetry.attempt_log import AttemptRecord, Reporter, new_request_id
from app.telemetry.hashes import KeyedHash
from app.telemetry.logs.lines import formatter
from app.telemetry.logs.setup import JsonLine, LineHandler
from app.tokens.logout_token import LogoutToken
from app.tokens.signed_jwt import UnverifiedJwt

ISSUER = IssuerSettings(
    issuer="https://op.example/\u00fc",
    clients=(
        ClientSettings(client_id='shop "web"', app="shop"),
        ClientSettings(client_id="wiki", app="wiki", both_claims="user"),
    ),
)
HASHED = KeyedHash(b"k" * 32)


class Lines(LineHandler):
    """Keeps the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(formatter(as_json=True))
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(re.sub(r'("timestamp"|"ms"):("[^"]*"|[0-9.]+)', r"\1:0", line))


@pytest.fixture
def lines() -> Any:
    handler = Lines()
    logger = logging.getLogger(story_module.LOGGER)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def token(**changes: Any) -> LogoutToken:
    return LogoutToken(
        **{
            "issuer": ISSUER, "client_ids": ('shop "web"',), "iat": 1.0, "jti": "j",
            "sub": "al\u00ecce", "sid": "s1", "revoke_offline_access": False, **changes,
        }
    )  # fmt: skip


def accepted(reporter: Reporter, judged: LogoutToken) -> AttemptRecord:
    story = AttemptRecord(reporter, time.perf_counter(), "id-1")
    story.issuer = ISSUER.issuer
    story.token = judged
    story.revocations = revocations_for(judged, received_at=1.0)
    return story


def both_ways(
    story: AttemptRecord, lines: Lines, monkeypatch: pytest.MonkeyPatch, *told: Any
) -> str:
    """The line, which must be the same: past logging, and as any other event."""
    story.tell(*told)
    short = JsonLine(lines, logging.INFO)
    monkeypatch.setattr(story_module, "json_line", lambda: short)
    story.tell(*told)
    long, past = lines.lines
    assert past == long
    return past


TELLERS = [
    pytest.param({}, {}, id="before the key is known"),
    pytest.param({"hashed": HASHED}, {"sid_hash": HASHED("s1"), "sub_hash": HASHED("al\u00ecce")}),
    pytest.param({"hashed": HASHED, "subjects": True}, {"sid": "s1", "sub": "al\u00ecce"}),
]


@pytest.mark.parametrize(("reporter", "who"), TELLERS)
def test_the_short_way_says_what_the_long_way_says(
    reporter: dict[str, Any], who: dict[str, str], lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = accepted(Reporter(**reporter), token())
    line = both_ways(story, lines, monkeypatch, Written.ACCEPTED)
    assert json.loads(line) == {
        "timestamp": 0, "ms": 0, "level": "info", "logger": "app.backchannel",
        "event": "logout", "outcome": "accepted", "request_id": "id-1",
        "issuer": ISSUER.issuer, "clients": ['shop "web"'], "kind": "session", **who,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"sid": None}, {"sub": None}, {"client_ids": ('shop "web"', "wiki")}],
    ids=["user", "sid alone", "two apps"],
)
def test_every_kind_of_logout_has_the_same_line_both_ways(
    change: dict[str, Any], lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = accepted(Reporter(hashed=HASHED), token(**change))
    line = both_ways(story, lines, monkeypatch, Written.REPEATED)
    kind = {"sid": "user", "sub": "session"}.get(next(iter(change)), "session,user")
    assert f'"kind":"{kind}"' in line


def test_a_parked_and_a_traced_one_too(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    story = accepted(Reporter(hashed=HASHED), token())
    story.parked, story.trace_id = 2.0, "0af7651916cd43dd8448eb211c80319c"
    line = both_ways(story, lines, monkeypatch, Written.JOURNALED)
    assert line.endswith('"trace_id":"0af7651916cd43dd8448eb211c80319c","parked_s":2.0}')


def test_one_that_our_side_could_not_take_says_so_as_a_warning(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = accepted(Reporter(hashed=HASHED), token())
    line = both_ways(story, lines, monkeypatch, "unavailable", Outage.REDIS_UNAVAILABLE)
    assert '"level":"warning"' in line
    assert '"outcome":"unavailable","reason":"redis_unavailable"' in line
    assert HASHED("s1") in line


@pytest.mark.parametrize(
    ("subjects", "shown"),
    [(False, f'"sid_hash":"{HASHED("x" * 900)}"'), (True, f'"sid":"{"x" * 255}"')],
)
def test_a_refused_one_tells_whom_it_named_and_nothing_else_of_it(
    subjects: bool, shown: str, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it claims is bounded, and what is no text is not told."""
    story = AttemptRecord(Reporter(hashed=HASHED, subjects=subjects), time.perf_counter(), "id-1")
    claims = {"sid": "x" * 900, "sub": {"a": "b"}, "email": "alice@example.org"}
    story.jwt = UnverifiedJwt({"alg": "none"}, claims, b"", b"")
    line = both_ways(story, lines, monkeypatch, "refused", Reason.ISS_UNKNOWN)
    assert shown in line
    assert line.count("sub") == 0
    assert "alice" not in line
    assert "none" not in line


def test_each_request_has_an_id_of_its_own() -> None:
    ids = {new_request_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"[0-9a-f]{16}", one) for one in ids)
