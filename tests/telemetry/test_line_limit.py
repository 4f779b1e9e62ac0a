"""Which lines of refused tokens are logged, and how the others are counted."""

import json
import logging
from collections.abc import Iterator

import pytest

from app.errors import Outage, Reason
from app.telemetry.attempt_log import LOGGER, AttemptRecord, Reporter
from app.telemetry.logs.line_limit import MAX_LINES, WINDOW_SECONDS, LineLimit
from app.telemetry.logs.lines import formatter
from app.telemetry.logs.setup import LineHandler
from app.tokens.logout_token import LogoutToken
from tests.support.clock import Clock
from tests.telemetry.test_attempt_log import ISSUER, token


class RecordedEvents(LineHandler):
    """Keeps the events."""

    def __init__(self) -> None:
        super().__init__(self.keep)
        self.setFormatter(formatter(as_json=True))
        self.all: list[dict[str, object]] = []

    def keep(self, line: str) -> None:
        self.all.append(json.loads(line))

    def count(self, name: str, **fields: object) -> int:
        wanted = {"event": name, **fields}.items()
        return sum(wanted <= {k: str(v) for k, v in event.items()}.items() for event in self.all)


@pytest.fixture
def events() -> Iterator[RecordedEvents]:
    handler, logger = RecordedEvents(), logging.getLogger(LOGGER)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> LineLimit:
    return LineLimit(monotonic=clock)


def report(
    limit: LineLimit,
    outcome: str,
    reason: str | None = None,
    *,
    issuer: str | None = None,
    valid: LogoutToken | None = None,
) -> None:
    record = AttemptRecord(Reporter(line_limit=limit), 0.0)
    record.issuer, record.token = issuer, valid
    record.report(outcome, reason)


def test_a_flood_of_unsigned_tokens_leaves_room_for_signed_ones(
    limit: LineLimit, events: RecordedEvents
) -> None:
    for _ in range(5000):
        report(limit, "refused", Reason.ISS_UNKNOWN)
        report(limit, "refused", Reason.SIGNATURE, issuer=ISSUER.issuer)
        report(limit, "unavailable", Outage.DEADLINE, issuer=ISSUER.issuer)
    assert len(events.all) < MAX_LINES / 3
    for _ in range(50):
        report(limit, "refused", Reason.IAT_OLD, issuer=ISSUER.issuer)
    assert events.count("logout", reason="iat_old") == 50
    report(limit, "refused", Reason.SHAPE)
    assert events.count("logout", reason="shape") == 1, "another kind still has room"


def test_accepted_logouts_and_valid_tokens_have_no_limit(
    limit: LineLimit, events: RecordedEvents
) -> None:
    for _ in range(2 * MAX_LINES):
        report(limit, "accepted", valid=token(), issuer=ISSUER.issuer)
        report(limit, "unavailable", Outage.OVERLOADED, valid=token(), issuer=ISSUER.issuer)
    assert len(events.all) == 4 * MAX_LINES


def test_omitted_lines_are_counted_by_kind_and_reported_once(
    events: RecordedEvents, clock: Clock
) -> None:
    counted: list[int] = []
    limit = LineLimit(counted.append, clock)
    for _ in range(1000):
        report(limit, "refused", Reason.ISS_UNKNOWN)
    logged = len(events.all)
    limit.report()
    limit.report()
    (summary,) = events.all[logged:]
    assert (summary["event"], summary["outcome"]) == ("logouts", "refused")
    assert (summary["reason"], summary["lines_left_out"]) == ("iss_unknown", 1000 - logged)
    assert sum(counted) == 1000 - logged


def test_after_the_window_lines_are_logged_again(
    limit: LineLimit, events: RecordedEvents, clock: Clock
) -> None:
    for _ in range(1000):
        report(limit, "refused", Reason.ISS_UNKNOWN)
    before = len(events.all)
    clock.now += 10 * WINDOW_SECONDS
    report(limit, "refused", Reason.ISS_UNKNOWN)
    assert len(events.all) == before + 1


def test_one_kind_has_a_small_share_of_the_limit(events: RecordedEvents, clock: Clock) -> None:
    limit = LineLimit(monotonic=clock)
    for _ in range(1000):
        report(limit, "refused", Reason.SHAPE)
    assert len(events.all) == pytest.approx(MAX_LINES / 24, abs=2)
