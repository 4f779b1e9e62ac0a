"""The black-box cases: all green for the receiver, and red for receivers that are wrong."""

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
from tests.support.provider import Provider
from tests.support.receiver import ROOT, Receiver
from tests.tokens.cases import CASES

pytestmark = pytest.mark.slow


def test_the_receiver_passes_every_case(provider: Provider, receiver: Receiver) -> None:
    """And docs/conformance.md shows just that: each case, and how it ended."""
    publish_another_key(provider)
    target = receiver.url + "/backchannel-logout"
    assert wait_until_configured(target, provider, 0)

    results = list(run(target, provider))

    assert [report.line(result) for result in results if not result.good] == []
    assert {result.module for result in results} - {""} == set(PLAN.values())
    documented = (ROOT / "docs" / "conformance.md").read_text().split("\n")
    table = documented[documented.index(report.HEAD[-1]) + 1 : -1]
    assert table == [report.row(result) for result in results], (
        "docs/conformance.md: take the table of dist/conformance.md, which make conformance writes"
    )


@contextlib.contextmanager
def answering(status: int | Callable[[bytes], int]) -> Iterator[str]:
    """The URL of a receiver that answers every request with one status, or with one that it finds
    for the body."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status if isinstance(status, int) else status(body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815  the names that the server calls

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/logout"
        server.shutdown()
        thread.join()


def conformance(target: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """`make conformance`, for a target that is configured already."""
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
def test_a_receiver_that_says_the_same_to_everything_fails(
    status: int, fails: str, holds: str | None, tmp_path: Path
) -> None:
    """The exit status says so, and so do the lines and the report."""
    with answering(status) as target:
        done = conformance(target, tmp_path)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.split("\n")
    assert [line[:4] for line in lines if f"] {fails}  " in line] == ["FAIL"]
    assert [line[:4] for line in lines if f"] {holds}  " in line] == (["ok  "] if holds else [])
    assert "**fails**" in (tmp_path / "report.md").read_text()


UNSIGNED = {"alg none, unsigned", "alg none, unsigned, with kid and typ"}


def test_a_receiver_that_takes_unsigned_tokens_fails(
    provider: Provider, receiver: Receiver
) -> None:
    """The classic attack, against a receiver that is right in all else: it passes on what has a
    signature to ours, and believes what says that it has none."""

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


def test_a_target_that_nobody_serves_fails(tmp_path: Path) -> None:
    """Not with a traceback: each case says why it got no answer."""
    done = conformance("http://127.0.0.1:1/x", tmp_path)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "got ConnectError" in done.stdout


def test_every_case_that_the_requirements_name_exists() -> None:
    names = {case.name for case in CASES}
    assert BY_NAME.keys() <= names
    assert PLAN.keys() <= names
