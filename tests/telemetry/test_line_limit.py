"""Which lines of refused tokens are logged, and what is said of the others."""

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
from tests.telemetry.test_attempt_log import ISSUER, token


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Kept(LineHandler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(formatter(as_json=True))
        self.events: list[dict[str, object]] = []

    def write(self, line: str) -> None:
        self.events.append(json.loads(line))

    def count(self, event: str, **fields: object) -> int:
        wanted = {"event": event, **fields}.items()
        return sum(wanted <= {k: str(v) for k, v in one.items()}.items() for one in self.events)


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, logger = Kept(), logging.getLogger(LOGGER)
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


def tell(
    limit: LineLimit,
    outcome: str,
    reason: str | None = None,
    *,
    issuer: str | None = None,
    judged: LogoutToken | None = None,
) -> None:
    story = AttemptRecord(Reporter(line_limit=limit), 0.0)
    story.issuer, story.token = issuer, judged
    story.tell(outcome, reason)


def test_a_flood_that_nobody_signed_leaves_room_for_what_an_issuer_has_signed(
    limit: LineLimit, kept: Kept
) -> None:
    for _ in range(5000):
        tell(limit, "refused", Reason.ISS_UNKNOWN)
        tell(limit, "refused", Reason.SIGNATURE, issuer=ISSUER.issuer)
        tell(limit, "unavailable", Outage.DEADLINE, issuer=ISSUER.issuer)
    assert len(kept.events) < MAX_LINES / 3
    for _ in range(50):
        tell(limit, "refused", Reason.IAT_OLD, issuer=ISSUER.issuer)
    assert kept.count("logout", reason="iat_old") == 50
    tell(limit, "refused", Reason.SHAPE)
    assert kept.count("logout", reason="shape") == 1, "another kind still finds room"


def test_logouts_and_signed_tokens_that_could_not_be_taken_have_no_limit(
    limit: LineLimit, kept: Kept
) -> None:
    for _ in range(2 * MAX_LINES):
        tell(limit, "accepted", judged=token(), issuer=ISSUER.issuer)
        tell(limit, "unavailable", Outage.OVERLOADED, judged=token(), issuer=ISSUER.issuer)
    assert len(kept.events) == 4 * MAX_LINES


def test_what_is_left_out_is_counted_by_kind_and_told(kept: Kept, clock: Clock) -> None:
    counted: list[int] = []
    limit = LineLimit(counted.append, clock)
    for _ in range(1000):
        tell(limit, "refused", Reason.ISS_UNKNOWN)
    logged = len(kept.events)
    limit.tell()
    limit.tell()
    (summary,) = kept.events[logged:]
    assert (summary["event"], summary["outcome"]) == ("logouts", "refused")
    assert (summary["reason"], summary["lines_left_out"]) == ("iss_unknown", 1000 - logged)
    assert sum(counted) == 1000 - logged


def test_after_the_window_lines_are_logged_again(
    limit: LineLimit, kept: Kept, clock: Clock
) -> None:
    for _ in range(1000):
        tell(limit, "refused", Reason.ISS_UNKNOWN)
    before = len(kept.events)
    clock.now += 10 * WINDOW_SECONDS
    tell(limit, "refused", Reason.ISS_UNKNOWN)
    assert len(kept.events) == before + 1


def test_one_kind_has_a_small_share_of_the_limit(kept: Kept, clock: Clock) -> None:
    limit = LineLimit(monotonic=clock)
    for _ in range(1000):
        tell(limit, "refused", Reason.SHAPE)
    assert len(kept.events) == pytest.approx(MAX_LINES / 24, abs=2)
