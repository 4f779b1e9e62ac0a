"""A repeated failure is logged once, then with a count, and never lost."""

import logging
from collections.abc import Iterator

import pytest

from app.log import new_log
from app.telemetry.logs.repetitions import MAX_KINDS, PAUSE, Repetitions


def raise_(error: type[Exception]) -> None:
    raise error


class RecordingHandler(logging.Handler):
    """Keeps the records that pass its filter."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def left_out(self) -> list[int | None]:
        return [getattr(record, "left_out", None) for record in self.records]


class FilteredLog:
    """A logger with a filter whose clock is `now`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.repetitions = Repetitions(lambda: self.now)
        self.handler = RecordingHandler()
        self.handler.addFilter(self.repetitions)
        self.logger = logging.getLogger("app.repeated")
        self.log = new_log("app.repeated")

    def fail(self, error: str = "timeout") -> None:
        self.log.warning("redis", outcome="failed", error=error)


@pytest.fixture
def filtered() -> Iterator[FilteredLog]:
    filtered = FilteredLog()
    filtered.logger.addHandler(filtered.handler)
    yield filtered
    filtered.logger.removeHandler(filtered.handler)


def test_equal_failures_are_logged_once(filtered: FilteredLog) -> None:
    for _ in range(50):
        filtered.fail()
    assert filtered.handler.left_out == [None]


def test_the_same_failure_of_another_request_is_equal(filtered: FilteredLog) -> None:
    for request_id in ("a", "b", "c"):
        filtered.log.error("logout", outcome="failed", request_id=request_id)
    assert filtered.handler.left_out == [None]


def test_exceptions_with_different_messages_are_equal(filtered: FilteredLog) -> None:
    for text in ("a", "b", "c"):
        try:
            int(text)
        except ValueError:
            filtered.log.exception("logout", outcome="failed")
    assert filtered.handler.left_out == [None]


def test_another_failure_is_logged_at_once(filtered: FilteredLog) -> None:
    filtered.fail()
    filtered.fail("OOM")
    logging.getLogger("app.repeated").warning("redis")
    assert len(filtered.handler.records) == 3


def test_after_the_pause_the_next_line_has_the_count(filtered: FilteredLog) -> None:
    for _ in range(5):
        filtered.fail()
    filtered.now += PAUSE
    filtered.fail()
    filtered.fail()
    assert filtered.handler.left_out == [None, 4]


def test_without_a_next_line_the_count_is_logged_all_the_same(filtered: FilteredLog) -> None:
    for _ in range(5):
        filtered.fail()
    filtered.repetitions.report()
    assert filtered.handler.left_out == [None], "not before the pause"
    filtered.now += PAUSE
    filtered.repetitions.report()
    filtered.repetitions.report()
    assert filtered.handler.left_out == [None, 3], "and this line is the fourth of them"
    filtered.fail()
    assert filtered.handler.left_out == [None, 3, None]


def test_the_final_report_logs_what_is_left(filtered: FilteredLog) -> None:
    filtered.fail()
    filtered.fail()
    filtered.repetitions.report(final=True)
    assert filtered.handler.left_out == [None, None], "nothing but this line was left out"


def test_information_is_always_logged(filtered: FilteredLog) -> None:
    filtered.logger.setLevel(logging.INFO)
    try:
        for _ in range(3):
            filtered.log.info("keys", outcome="fetched")
    finally:
        filtered.logger.setLevel(logging.NOTSET)
    assert len(filtered.handler.records) == 3


def test_another_exception_is_another_failure(filtered: FilteredLog) -> None:
    def fail(error: type[Exception]) -> None:
        try:
            raise_(error)
        except error:
            filtered.log.exception("redis", outcome="failed")

    for error in (KeyError, KeyError, ValueError):
        fail(error)
    assert len(filtered.handler.records) == 2
    filtered.now += PAUSE
    filtered.repetitions.report()
    (again,) = filtered.handler.records[2:]
    assert again.exc_info is None, "otherwise it keeps its frames alive"


def test_ever_new_failures_are_logged_within_bounded_memory(filtered: FilteredLog) -> None:
    for n in range(MAX_KINDS + 10):
        filtered.fail(str(n))
    assert len(filtered.handler.records) == MAX_KINDS + 10
    assert len(filtered.repetitions._kinds) == MAX_KINDS
    filtered.now += PAUSE
    filtered.repetitions.report()
    assert filtered.repetitions._kinds == {}
