"""The log line of a token: its fields, the same as JSON and through logging."""

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
from app.telemetry import attempt_log
from app.telemetry.attempt_log import AttemptRecord, Reporter, new_request_id
from app.telemetry.hashes import KeyedHash
from app.telemetry.logs.lines import JsonLine, formatter
from app.telemetry.logs.setup import LineHandler
from app.tokens.logout_token import LogoutToken
from app.tokens.signed_jwt import UnverifiedJwt

ISSUER = IssuerSettings(
    issuer="https://op.example/\u00fc",
    clients=(
        ClientSettings(client_id='shop "web"', app="shop"),
        ClientSettings(client_id="wiki", app="wiki", both_claims="user"),
    ),
)
HASH = KeyedHash(b"k" * 32)


class RecordingHandler(LineHandler):
    """Keeps the lines, without their times."""

    def __init__(self) -> None:
        super().__init__(self.keep)
        self.setFormatter(formatter(as_json=True))
        self.lines: list[str] = []

    def keep(self, line: str) -> None:
        self.lines.append(re.sub(r'("timestamp"|"ms"):("[^"]*"|[0-9.]+)', r"\1:0", line))


@pytest.fixture
def handler() -> Any:
    handler = RecordingHandler()
    logger = logging.getLogger(attempt_log.LOGGER)
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


def accepted(reporter: Reporter, valid: LogoutToken) -> AttemptRecord:
    record = AttemptRecord(reporter, time.perf_counter(), "id-1")
    record.issuer = ISSUER.issuer
    record.token = valid
    record.revocations = revocations_for(valid, received_at=1.0)
    return record


def line_of(
    record: AttemptRecord, handler: RecordingHandler, monkeypatch: pytest.MonkeyPatch, *result: Any
) -> str:
    """The line, which is the same with and without a logging record."""
    record.report(*result)
    json_line = JsonLine(handler.keep, logging.INFO)
    monkeypatch.setattr(attempt_log, "json_line", lambda: json_line)
    record.report(*result)
    through_logging, direct = handler.lines
    assert direct == through_logging
    return direct


REPORTERS = [
    pytest.param({}, {}, id="before the key is known"),
    pytest.param({"keyed_hash": HASH}, {"sid_hash": HASH("s1"), "sub_hash": HASH("al\u00ecce")}),
    pytest.param({"keyed_hash": HASH, "subjects": True}, {"sid": "s1", "sub": "al\u00ecce"}),
]


@pytest.mark.parametrize(("reporter", "subjects"), REPORTERS)
def test_an_accepted_logout_has_a_line_with_these_fields(
    reporter: dict[str, Any],
    subjects: dict[str, Any],
    handler: RecordingHandler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = accepted(Reporter(**reporter), token())
    line = line_of(record, handler, monkeypatch, Written.ACCEPTED)
    assert json.loads(line) == {
        "timestamp": 0, "ms": 0, "level": "info", "logger": "app.backchannel",
        "event": "logout", "outcome": "accepted", "request_id": "id-1",
        "issuer": ISSUER.issuer, "clients": ['shop "web"'], "kind": "session", **subjects,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"sid": None}, "user"),
        ({"sub": None}, "session"),
        ({"client_ids": ('shop "web"', "wiki")}, "session,user"),
    ],
    ids=["user", "sid alone", "two apps"],
)
def test_the_line_names_the_kind_of_the_logout(
    change: dict[str, Any], kind: str, handler: RecordingHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = accepted(Reporter(keyed_hash=HASH), token(**change))
    assert f'"kind":"{kind}"' in line_of(record, handler, monkeypatch, Written.REPEATED)


def test_a_parked_and_traced_logout_has_both_fields(
    handler: RecordingHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = accepted(Reporter(keyed_hash=HASH), token())
    record.parked, record.trace_id = 2.0, "0af7651916cd43dd8448eb211c80319c"
    line = line_of(record, handler, monkeypatch, Written.JOURNALED)
    assert line.endswith('"trace_id":"0af7651916cd43dd8448eb211c80319c","parked_s":2.0}')


def test_a_valid_token_that_cannot_be_written_is_a_warning(
    handler: RecordingHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = accepted(Reporter(keyed_hash=HASH), token())
    line = line_of(record, handler, monkeypatch, "unavailable", Outage.REDIS_UNAVAILABLE)
    assert '"level":"warning"' in line
    assert '"outcome":"unavailable","reason":"redis_unavailable"' in line
    assert HASH("s1") in line


@pytest.mark.parametrize(
    ("subjects", "member"),
    [(False, f'"sid_hash":"{HASH("x" * 900)}"'), (True, f'"sid":"{"x" * 255}"')],
)
def test_the_line_of_a_refused_token_has_nothing_of_it_but_bounded_sid_and_sub(
    subjects: bool, member: str, handler: RecordingHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that is not a string is left out."""
    reporter = Reporter(keyed_hash=HASH, subjects=subjects)
    record = AttemptRecord(reporter, time.perf_counter(), "id-1")
    claims = {"sid": "x" * 900, "sub": {"a": "b"}, "email": "alice@example.org"}
    record.jwt = UnverifiedJwt({"alg": "none"}, claims, b"", b"")
    line = line_of(record, handler, monkeypatch, "refused", Reason.ISS_UNKNOWN)
    assert member in line
    assert line.count("sub") == 0
    assert "alice" not in line
    assert "none" not in line


def test_every_request_has_its_own_id() -> None:
    ids = {new_request_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"[0-9a-f]{16}", request_id) for request_id in ids)
