"""The limit of open files, which the public listener raises."""

import resource

import pytest

from app.server import listeners

NEEDED = 2000 + listeners.OTHER_FILES


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "warned"),
    [
        (1024, 4096, NEEDED, False),
        (1024, 2000, 2000, True),
        (1024, resource.RLIM_INFINITY, NEEDED, False),
        (NEEDED, 4096, None, False),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, False),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_needed(
    soft: int,
    hard: int,
    raised: int | None,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    listeners.allow_files(2000)
    assert set_to == ([] if raised is None else [(raised, hard)])
    assert bool(caplog.records) == warned
