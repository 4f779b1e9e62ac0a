"""The log of a process: its lines, and that it never makes the process fail."""

import json
import os
import pty
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.telemetry.logs.output import parts

ROOT = Path(__file__).parents[2]

# What a program does before it logs anything; `statements` are appended.
SET_UP = """
import logging
from types import SimpleNamespace
from app.log import new_log
from app.telemetry.logs.setup import repetitions, set_up_log
set_up_log(SimpleNamespace(log_format={format!r}, log_level={level!r}))
log = new_log("app.some")
"""


def program(statements: str, *, log_format: str = "auto", level: str = "info") -> list[str]:
    return [sys.executable, "-c", SET_UP.format(format=log_format, level=level) + statements]


def run(statements: str, stderr: Path, **options: Any) -> str:
    with stderr.open("w") as file:
        return subprocess.run(
            program(statements, **options),
            cwd=ROOT, stdout=subprocess.PIPE, stderr=file, text=True, check=True, timeout=60,
        ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The lines of one process that logs one of each, by event. A start takes a third of a
    second.
    """
    path = tmp_path_factory.mktemp("log") / "log"
    run(EVERYTHING, path)
    return {line["event"]: line for line in map(json.loads, path.read_text().splitlines())}


TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"

EVERYTHING = f"""
log.warning("keys", outcome="failed", issuer="https://op.example/", error="http_500", age=None)
logging.getLogger("some.library").warning("it took %d ms", 7)
log.info("forged", text='a\\nb"c\\x1b[31m\\u202e')
log.error("net", text="see {TOKEN}, and redis://user:sesame@host/0", more=["{TOKEN}"])
def inner(password):
    raise KeyError("alice@example.org {TOKEN}")
def outer():
    try:
        inner("sesame")
    except KeyError as error:
        raise OSError(28, "No space left on device", "/home/alice/file") from error
try:
    outer()
except OSError:
    log.exception("journal", outcome="failed")
try:
    inner("sesame")
except KeyError:
    logging.getLogger("some.library").exception("that went wrong")
log.info("end")
"""


def test_an_event_is_one_json_object_with_its_fields_in_order(
    lines: dict[str, dict[str, Any]],
) -> None:
    """Fields that are None are omitted."""
    line = lines["keys"]
    assert list(line) == ["timestamp", "level", "logger", "event", "outcome", "issuer", "error"]
    assert line["level"] == "warning"
    assert line["logger"] == "app.some"
    assert line["issuer"] == "https://op.example/"
    assert len(line["timestamp"]) == len("2026-11-22T05:10:11.123Z")


def test_lines_of_libraries_have_the_same_shape(lines: dict[str, dict[str, Any]]) -> None:
    line = lines["it took 7 ms"]
    assert (line["logger"], line["level"]) == ("some.library", "warning")


def test_a_value_can_neither_end_its_line_nor_control_a_terminal(
    lines: dict[str, dict[str, Any]],
) -> None:
    assert lines["forged"]["text"] == 'a\nb"c\x1b[31m\u202e'
    assert "end" in lines, "each line is valid JSON"


def test_tokens_and_passwords_are_redacted_everywhere(
    lines: dict[str, dict[str, Any]],
) -> None:
    line = lines["net"]
    assert line["text"] == "see [token], and redis://[covered]@host/0"
    assert line["more"] == ["[token]"]


@pytest.mark.parametrize("event", ["journal", "that went wrong"])
def test_an_exception_is_logged_without_its_message_and_values(
    event: str, lines: dict[str, dict[str, Any]]
) -> None:
    """Only its type, its location and its causes, and for errors of the system the reason."""
    line = json.dumps(lines[event])
    for secret in ("sesame", "alice", "eyJ", "password"):
        assert secret not in line
    last = lines[event]["exception"][-1]
    assert last["type"] == "KeyError"
    assert last["frames"][-1].endswith(" inner")


def test_an_error_of_the_system_keeps_its_reason(lines: dict[str, dict[str, Any]]) -> None:
    first = lines["journal"]["exception"][0]
    assert (first["type"], first["reason"]) == ("OSError", "No space left on device")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    statements = 'log.warning("keys", outcome="failed")\nprint("went on")'
    assert run(statements, Path("/dev/full")) == "went on\n"


@pytest.mark.slow
def test_a_level_leaves_out_what_is_below_it(tmp_path: Path) -> None:
    statements = """
from app.telemetry.logs.setup import json_line
for level in ("info", "warning", "error"):
    getattr(log, level)("long", n=level)
    json_line().write(getattr(logging, level.upper()), "app.some", "short", f',"n":"{level}"')
"""
    run(statements, tmp_path / "log", level="warning")
    events = map(json.loads, (tmp_path / "log").read_text().splitlines())
    levels = [(line["event"], line["n"]) for line in events]
    assert levels == [(way, n) for n in ("warning", "error") for way in ("long", "short")]


def in_a_terminal(statements: str, **options: Any) -> str:
    main, side = pty.openpty()
    try:
        subprocess.run(
            program(statements, **options), cwd=ROOT, stderr=side, check=True, timeout=60
        )
        return os.read(main, 1 << 16).decode()
    finally:
        os.close(main)
        os.close(side)


@pytest.mark.slow
def test_in_a_terminal_the_log_is_for_people_and_escapes_control_sequences() -> None:
    """Colors are ours; foreign text has lost everything that a terminal would obey."""
    output = in_a_terminal(
        EVERYTHING + 'log.warning("parked", text="\\x1b[2Jgone\\rback", outcome="\\x9b5n")'
    )
    assert "No space left on device" in output
    assert "\x1b[2J" not in output
    assert "\x9b" not in output
    assert "\u202e" not in output
    for secret in ("sesame", "alice", "eyJ"):
        assert secret not in output


@pytest.mark.slow
def test_json_is_available_in_a_terminal_too() -> None:
    output = in_a_terminal('log.warning("keys", outcome="failed")', log_format="json")
    assert json.loads(output)["outcome"] == "failed"


@pytest.mark.slow
def test_the_format_for_people_is_available_without_a_terminal(tmp_path: Path) -> None:
    run('log.warning("keys", outcome="failed")', tmp_path / "log", log_format="console")
    line = (tmp_path / "log").read_text()
    assert "outcome=failed" in line
    assert "\x1b" not in line


MANY = """
from app.telemetry.logs.output import LINES
LINES.start()
for n in range(100):
    LINES.write(f"{n:03d}" + "\u00e9" * 60)
"""
MANY_LINES = [f"{n:03d}" + "é" * 60 for n in range(100)]


def test_each_line_stays_whole_however_many_are_written_in_one_call() -> None:
    """A socket that preserves write boundaries takes the place of a pipe. The process waits for its
    last line when it ends.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        subprocess.run(
            [sys.executable, "-c", MANY], cwd=ROOT, stderr=theirs, check=True, timeout=60
        )
        theirs.close()
        writes = list(iter(lambda: ours.recv(1 << 16), b""))
    assert b"".join(writes).decode().splitlines() == MANY_LINES
    assert all(len(chunk) <= select.PIPE_BUF and chunk.endswith(b"\n") for chunk in writes)


def test_lines_are_written_with_as_few_calls_as_a_pipe_allows() -> None:
    together = list(parts([*MANY_LINES, "x" * 2 * select.PIPE_BUF, "end"]))
    assert [line for part in together for line in part][:100] == MANY_LINES
    assert len(together) == 4 + 2  # 12,400 bytes, and the long one alone


MUCH = """
from app.telemetry.logs.output import LINES
LINES.start()
for n in range(5000):
    LINES.write(f"{n:04d}" + "x" * 96)
print("went on", flush=True)
LINES.flush(30)
"""


@pytest.mark.slow
def test_a_pipe_made_non_blocking_by_another_process_loses_no_line() -> None:
    """The flag applies to all processes that share the pipe, and each may set it."""
    out, into = os.pipe()
    os.set_blocking(into, False)
    with subprocess.Popen(
        [sys.executable, "-c", MUCH], cwd=ROOT, stdout=subprocess.PIPE, stderr=into, text=True
    ) as process:
        os.close(into)
        assert process.stdout is not None
        assert process.stdout.readline() == "went on\n"
        with os.fdopen(out) as pipe:
            lines = pipe.read().splitlines()
    assert lines == [f"{n:04d}" + "x" * 96 for n in range(5000)]
