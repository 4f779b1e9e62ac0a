"""The journal's disk is full, or the journal was damaged while the receiver was down."""

import signal
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from app.journal.journal import directory_of
from tests.faults.disk import KINDS, Disk
from tests.faults.fault_fixture import Scenario
from tests.faults.ledger import acknowledged
from tests.support.receiver import Receiver, wait_for


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_full_disk_while_redis_is_down_is_answered_503(
    kind: type[Disk], scenario: Scenario
) -> None:
    """Without durable storage the answer is 503. Earlier entries are still replayed and deleted."""
    redis = scenario.redis()
    disk = kind(scenario.directory / "disk")
    journal = f'journal = "{scenario.directory}/disk/journal.db"'
    receiver = scenario.receiver(redis.url, top=journal, program=disk.program, env=disk.env)
    with scenario.load(receiver) as load:
        load.more(60)
        redis.stop(signal.SIGKILL)
        load.more_of(60, 200)
        disk.fill(receiver)
        load.more_of(60, 503)
        redis.start()
        scenario.settle(load, redis.url)
    wait_for(lambda: pending_entries(receiver) == 0, "the journal is empty", receiver)
    scenario.judge(f"disk full ({kind.__name__}) while Redis is away", redis.url)
    assert receiver.stop() == 0


def pending_entries(receiver: Receiver) -> int:
    return int(receiver.readyz().json()["journal"]["waiting"])


def cut(file: Path, random: Random) -> None:
    data = file.read_bytes()
    size = random.randrange(len(data) * 3 // 4, len(data))
    while b"\n" in data[size - 1 : size + 1]:  # a cut between two records is not detectable
        size -= 1
    file.write_bytes(data[:size])


def overwrite_middle(file: Path, random: Random) -> None:
    size = file.stat().st_size
    with file.open("r+b") as content:
        content.seek(random.randrange(size // 3, size // 2))
        content.write(random.randbytes(4096))


def overwrite_head(file: Path, random: Random) -> None:
    with file.open("r+b") as content:
        content.write(random.randbytes(100))


@pytest.mark.parametrize("damage", [cut, overwrite_middle, overwrite_head])
def test_a_damaged_journal_keeps_its_readable_entries(
    damage: Callable[[Path, Random], None], scenario: Scenario
) -> None:
    """Readable entries are applied, the damaged file is kept, and the log reports it."""
    redis = scenario.redis()
    receiver = scenario.receiver(redis.url, top='shutdown_grace = "1s"')
    with scenario.load(receiver) as load:
        load.more(60)
        redis.stop(signal.SIGKILL)
        before = len(acknowledged(load.entries))
        load.more_of(200, 200)
        receiver.stop()
        at_risk = len(acknowledged(load.entries)) - before
        path = receiver.directory / "data" / "journal.db"
        (segment,) = directory_of(path).iterdir()
        damage(segment, scenario.random)
        redis.start()
        receiver.start()
        assert list(path.parent.glob("journal.db.damaged-*"))
        events = receiver.wait_for_log_event("journal", level="critical")
        assert [event for event in events if event["outcome"].startswith("damaged")]
        scenario.settle(load, redis.url, complete=False)
    name = f"journal damaged ({damage.__name__})"
    verdict = scenario.judge(name, redis.url, may_lose=at_risk, **{"in the journal": at_risk})
    assert verdict.lost < at_risk // 2, "most of it was readable"
