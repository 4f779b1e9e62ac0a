"""The conformance run passes for the receiver and fails for incorrect ones."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import pytest

from tests.conformance import report
from tests.conformance.requirements import BY_NAME, PLAN
from tests.conformance.run import publish_another_key, run, wait_until_configured
from tests.support.providers.provider import Provider
from tests.support.receiver import ROOT, Receiver
from tests.tokens.cases import CASES

pytestmark = pytest.mark.slow


def test_the_receiver_passes_every_case(provider: Provider, receiver: Receiver) -> None:
    """docs/conformance.md shows each case and its result."""
    publish_another_key(provider)
    target = receiver.url + "/backchannel-logout"
    assert wait_until_configured(target, provider, 0)

    results = list(run(target, provider))

    assert [report.line(result) for result in results if not result.good] == []
    assert {result.module for result in results} - {""} == set(PLAN.values())
    documented = (ROOT / "docs" / "conformance.md").read_text().split("\n")
    table = documented[documented.index(report.HEAD[-1]) + 1 : -1]
    assert table == [report.row(result) for result in results], (
        "docs/conformance.md: copy the table of dist/conformance.md, written by make conformance"
    )


@contextlib.contextmanager
def answering(status: int | Callable[[bytes], int]) -> Iterator[str]:
    """The URL of a receiver that answers every request with a fixed status, or with a function of
    the body."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status if isinstance(status, int) else status(body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815  names that http.server calls

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/logout"
        server.shutdown()
        thread.join()


def conformance(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Runs `make conformance` for a configured target."""
    command = [sys.executable, "-m", "tests.conformance", target, "--wait", "0"]
    return subprocess.run(
        [*command, "--report", str(directory / "report.md")],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("status", "fails", "holds"),
    [
        (200, "alg none, unsigned", "as the specification's example"),
        (400, "as the specification's example", "alg none, unsigned"),
        (204, "as the specification's example", None),
        (500, "nonce", None),
    ],
)
def test_a_receiver_with_one_answer_for_every_case_fails(
    status: int, fails: str, holds: str | None, tmp_path: Path
) -> None:
    """In the exit status, the lines and the report."""
    with answering(status) as target:
        done = conformance(target, tmp_path)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.split("\n")
    assert [line[:4] for line in lines if f"] {fails}  " in line] == ["FAIL"]
    assert [line[:4] for line in lines if f"] {holds}  " in line] == (["ok  "] if holds else [])
    assert "**fails**" in (tmp_path / "report.md").read_text()


UNSIGNED = {"alg none, unsigned", "alg none, unsigned, with kid and typ"}


def test_a_receiver_that_accepts_unsigned_tokens_fails(
    provider: Provider, receiver: Receiver
) -> None:
    """The classic attack, against an otherwise correct receiver: it forwards signed tokens to ours
    and accepts those with ``alg: none``."""

    def status(body: bytes) -> int:
        token = parse_qs(body.decode()).get("logout_token", [""])[0]
        with contextlib.suppress(ValueError):
            unverified = jwt.PyJWS().decode_complete(token, options={"verify_signature": False})
            if (unverified["header"].get("alg"), unverified["signature"]) == ("none", b""):
                return 200
        sent = receiver.http.post(
            receiver.url + "/backchannel-logout", content=body,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
        return sent.status_code

    publish_another_key(provider)
    with answering(status) as target:
        failed = [result for result in run(target, provider) if result.failed]
    assert {result.name for result in failed if result.answer == "200"} == UNSIGNED
    assert "oidcc-client-test-rp-backchannel-rpinitlogout-alg-none" in {
        result.module for result in failed
    }


def test_an_unreachable_target_fails(tmp_path: Path) -> None:
    """Without a traceback: each case has the name of its error."""
    done = conformance("http://127.0.0.1:1/x", tmp_path)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "got ConnectError" in done.stdout


def test_every_case_that_the_requirements_name_exists() -> None:
    names = {case.name for case in CASES}
    assert BY_NAME.keys() <= names
    assert PLAN.keys() <= names
