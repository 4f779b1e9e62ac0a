"""A failure that comes again and again: told once, then with a count, and never lost."""

import logging
from collections.abc import Iterator

import pytest

from app.log import new_log
from app.telemetry.logs.repetitions import MAX_KINDS, PAUSE, Repetitions


def raise_(error: type[Exception]) -> None:
    raise error


class Kept(logging.Handler):
    """Keeps what passes its filter."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def left_out(self) -> list[int | None]:
        return [getattr(record, "left_out", None) for record in self.records]


class Scene:
    """A logger with a filter whose clock is `now`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.repetitions = Repetitions(lambda: self.now)
        self.kept = Kept()
        self.kept.addFilter(self.repetitions)
        self.logger = logging.getLogger("app.repeated")
        self.log = new_log("app.repeated")

    def fail(self, error: str = "timeout") -> None:
        self.log.warning("redis", outcome="failed", error=error)


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    scene.logger.addHandler(scene.kept)
    yield scene
    scene.logger.removeHandler(scene.kept)


def test_what_is_alike_is_told_once(scene: Scene) -> None:
    for _ in range(50):
        scene.fail()
    assert scene.kept.left_out == [None]


def test_the_same_failure_of_another_request_is_alike(scene: Scene) -> None:
    for request_id in ("a", "b", "c"):
        scene.log.error("logout", outcome="failed", request_id=request_id)
    assert scene.kept.left_out == [None]


def test_an_exception_which_quotes_what_came_is_alike(scene: Scene) -> None:
    for given in ("a", "b", "c"):
        try:
            int(given)
        except ValueError:
            scene.log.exception("logout", outcome="failed")
    assert scene.kept.left_out == [None]


def test_another_failure_is_told_at_once(scene: Scene) -> None:
    scene.fail()
    scene.fail("OOM")
    logging.getLogger("app.repeated").warning("redis")
    assert len(scene.kept.records) == 3


def test_after_the_pause_the_next_one_says_how_many_were_left_out(scene: Scene) -> None:
    for _ in range(5):
        scene.fail()
    scene.now += PAUSE
    scene.fail()
    scene.fail()
    assert scene.kept.left_out == [None, 4]


def test_where_none_comes_after_it_the_count_is_told_all_the_same(scene: Scene) -> None:
    for _ in range(5):
        scene.fail()
    scene.repetitions.report()
    assert scene.kept.left_out == [None], "not before the pause"
    scene.now += PAUSE
    scene.repetitions.report()
    scene.repetitions.report()
    assert scene.kept.left_out == [None, 3], "and this line is the fourth of them"
    scene.fail()
    assert scene.kept.left_out == [None, 3, None]


def test_the_end_tells_what_is_left(scene: Scene) -> None:
    scene.fail()
    scene.fail()
    scene.repetitions.report(final=True)
    assert scene.kept.left_out == [None, None], "nothing but this line was left out"


def test_what_is_no_failure_is_always_told(scene: Scene) -> None:
    scene.logger.setLevel(logging.INFO)
    try:
        for _ in range(3):
            scene.log.info("keys", outcome="fetched")
    finally:
        scene.logger.setLevel(logging.NOTSET)
    assert len(scene.kept.records) == 3


def test_another_exception_is_another_failure(scene: Scene) -> None:
    def fail(error: type[Exception]) -> None:
        try:
            raise_(error)
        except error:
            scene.log.exception("redis", outcome="failed")

    for error in (KeyError, KeyError, ValueError):
        fail(error)
    assert len(scene.kept.records) == 2
    scene.now += PAUSE
    scene.repetitions.report()
    (again,) = scene.kept.records[2:]
    assert again.exc_info is None, "nothing keeps the frames alive"


def test_ever_new_failures_take_no_memory_and_are_told(scene: Scene) -> None:
    for n in range(MAX_KINDS + 10):
        scene.fail(str(n))
    assert len(scene.kept.records) == MAX_KINDS + 10
    assert len(scene.repetitions._kinds) == MAX_KINDS
    scene.now += PAUSE
    scene.repetitions.report()
    assert scene.repetitions._kinds == {}
