"""The copy of what was acknowledged: found again, bounded, and never in the way."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.publish import accepted as module
from app.publish.accepted import IN_MEMORY_ENTRIES, Accepted
from app.publish.sqlite_file import files_of
from tests.support.revocations import numbered


class Clocks:
    """The wall's, which somebody may set, and the monotonic one."""

    def __init__(self) -> None:
        self.wall = 1_795_283_041.0
        self.steady = 1000.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


def at(path: Path | None, clocks: Clocks, *, window: float = 3600, most: int = 1000) -> Accepted:
    return Accepted(
        path, window=window, most=most, clock=lambda: clocks.wall, monotonic=lambda: clocks.steady
    )


@pytest.fixture
async def copy(tmp_path: Path, clocks: Clocks) -> AsyncIterator[Accepted]:
    one = at(tmp_path / "copy", clocks)
    await one.open()
    yield one
    await one.close()


async def sids(copy: Accepted, after: int = 0) -> list[str | None]:
    return [one.event.sid for _, one in await copy.read(after=after, limit=10_000)]


async def note(copy: Accepted, *numbers: int) -> None:
    for n in numbers:
        copy.remember(numbered(n))
    await copy.flush()


@pytest.mark.parametrize("kept", [True, False], ids=["on disk", "in memory"])
async def test_what_was_accepted_is_read_in_its_order(
    tmp_path: Path, clocks: Clocks, *, kept: bool
) -> None:
    copy = at(tmp_path / "copy" if kept else None, clocks)
    await copy.open()
    await note(copy, 1, 2)
    await note(copy, 3)
    assert await sids(copy) == ["s1", "s2", "s3"]
    first = await copy.read(after=0, limit=2)
    assert await sids(copy, after=first[-1][0]) == ["s3"]
    await copy.close()


async def test_what_was_noted_is_there_after_a_restart(tmp_path: Path, clocks: Clocks) -> None:
    """An end in order writes what was only noted."""
    copy = at(tmp_path / "copy", clocks)
    await copy.open()
    copy.remember(numbered(1))
    await copy.close()
    copy = at(tmp_path / "copy", clocks)
    await copy.open()
    assert await sids(copy) == ["s1"]
    assert await copy.since(360, at_least=0) == 0, "it is of the last minutes"
    await copy.close()


async def test_lately_is_of_the_monotonic_clock_and_no_setting_of_the_wall_clock_moves_it(
    copy: Accepted, clocks: Clocks
) -> None:
    await note(copy, 1, 2)
    clocks.pass_by(400)
    await note(copy, 3)
    clocks.pass_by(100)
    for hours in (1, -2):
        clocks.wall += hours * 3600
        assert await sids(copy, after=await copy.since(360, at_least=0)) == ["s3"]
    await note(copy, 4)
    assert await sids(copy, after=await copy.since(360, at_least=0)) == ["s3", "s4"]
    assert await sids(copy, after=await copy.since(360, at_least=3)) == ["s2", "s3", "s4"]
    clocks.pass_by(9999)
    assert await sids(copy, after=await copy.since(360, at_least=0)) == []
    assert await copy.since(360, at_least=10) == 0


async def test_what_is_too_old_or_too_much_is_forgotten(tmp_path: Path, clocks: Clocks) -> None:
    copy = at(tmp_path / "copy", clocks, window=600, most=5)
    await copy.open()
    await note(copy, 1, 2)
    clocks.pass_by(601)
    await note(copy, 3)
    await copy._prune()
    assert await sids(copy) == ["s3"]
    await note(copy, *range(10, 20))
    await copy._prune()
    assert await sids(copy) == ["s15", "s16", "s17", "s18", "s19"]
    await copy.close()


async def test_in_memory_it_is_bounded_whatever_the_settings_say(clocks: Clocks) -> None:
    copy = at(None, clocks, window=86400, most=10**6)
    await copy.open()
    assert copy._most == IN_MEMORY_ENTRIES
    await note(copy, 1)
    clocks.pass_by(601)
    await copy._prune()
    assert await sids(copy) == []
    await copy.close()


async def test_days_of_load_leave_no_trace_in_memory(copy: Accepted, clocks: Clocks) -> None:
    """Nobody asks for the last minutes while nothing fails."""
    for n in range(3000):
        clocks.pass_by(1)
        await note(copy, n)
    assert len(copy._steps) <= 700


async def test_a_fault_of_ours_does_not_end_the_writing(
    copy: Accepted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else what is noted would pile up in memory until the process dies."""
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.001)
    whole = module.encode
    monkeypatch.setattr(module, "encode", lambda _: 1 / 0)
    task = asyncio.create_task(copy.keep_writing())
    copy.remember(numbered(1))
    async with asyncio.timeout(20):
        while "error=internal" not in caplog.text:
            await asyncio.sleep(0.001)
        monkeypatch.setattr(module, "encode", whole)
        copy.remember(numbered(2))
        while await sids(copy) != ["s2"]:
            await asyncio.sleep(0.001)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


# -- damage --------------------------------------------------------------------------------


async def filled(path: Path, clocks: Clocks) -> None:
    copy = at(path, clocks)
    await copy.open()
    await note(copy, *range(500))
    await copy.close()


def overwrite(path: Path, start: int, length: int) -> None:
    data = bytearray(path.read_bytes())
    data[start : start + length] = b"\xaa" * length
    path.write_bytes(data)


async def test_a_damaged_copy_is_begun_anew_with_what_can_be_read(
    tmp_path: Path, clocks: Clocks
) -> None:
    path = tmp_path / "copy"
    await filled(path, clocks)
    overwrite(path, 0, 100)
    copy = at(path, clocks)
    await copy.open()
    assert len(await sids(copy)) == 500
    assert await copy.since(360, at_least=0) == 0, "all of it may be of the last minutes"
    await note(copy, 1000)
    assert "s1000" in await sids(copy)
    await copy.close()
    assert {file.name for file in tmp_path.iterdir()} == {"copy"}  # noqa: ASYNC240


async def test_damage_that_is_only_found_when_it_is_read_is_mended_then(
    tmp_path: Path, clocks: Clocks
) -> None:
    """A loss of power can leave such a file, and that is when the copy is needed."""
    path = tmp_path / "copy"
    await filled(path, clocks)
    overwrite(path, 16384 * 8, 16384)
    copy = at(path, clocks)
    await copy.open()
    with pytest.raises(sqlite3.DatabaseError):
        await sids(copy)
    assert 400 < len(await sids(copy)) < 500
    await copy.close()


async def test_the_copy_of_one_who_is_gone_is_taken_over_and_its_files_deleted(
    copy: Accepted, tmp_path: Path, clocks: Clocks
) -> None:
    await filled(tmp_path / "other", clocks)
    await note(copy, 1000)
    await copy.adopt(tmp_path / "other")
    assert len(await sids(copy)) == 501
    assert not any(file.exists() for file in files_of(tmp_path / "other"))
