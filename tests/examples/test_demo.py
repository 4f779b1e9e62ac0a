"""``make demo``, run like a new user does."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from examples.demo.__main__ import run
from examples.demo.ports import Ports
from examples.demo.processes import ChildFault
from examples.demo.scenario import Answer, DemoOutcome
from examples.demo.services import running_services
from tests.support.receiver import ROOT, wait_for
from tests.support.servers.redis_server import free_port

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "examples.demo")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A directory for temporary files, and settings that the demo must ignore."""
    return os.environ | {
        "TMPDIR": str(tmp_path),
        "BCL_REDIS_URL": "redis://127.0.0.1:1/0",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }


@pytest.fixture
def demo(
    request: pytest.FixtureRequest, environ: dict[str, str], tmp_path: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A demo with the test's arguments; it prints to the file ``.out`` next to its directory."""
    command = [*COMMAND, *getattr(request, "param", ())]
    with Path(f"{tmp_path}.out").open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=out, stderr=out)
    yield process
    process.terminate()
    process.wait(30)


def listeners(printed: str) -> list[int]:
    """The ports in the demo's output that still accept connections."""
    ports = {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", printed)}
    assert len(ports) >= 3
    return [port for port in ports if _accepts_connections(port)]


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_once_shows_that_one_session_ended_and_the_other_is_alive(
    environ: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [*COMMAND, "--once"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"ms  receiver   has the token", done.stdout)
    assert re.search(r"ms  Redis      marker bcl:v1:\{shop\}:sid:\S{22}, cutoff \d+", done.stdout)
    assert re.search(r"ms  receiver   answers the provider: 200", done.stdout)
    assert re.search(r"ms  phone      GET /me -> 401, dead", done.stdout)
    assert re.search(r"ms  laptop     GET /me -> 200, alive", done.stdout)
    assert "As expected" in done.stdout
    assert done.stderr == ""
    assert listeners(done.stdout) == []
    assert list(tmp_path.iterdir()) == []


def test_it_runs_until_a_signal_and_leaves_nothing_behind(
    demo: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    out = Path(f"{tmp_path}.out")
    wait_for(lambda: "Ctrl-C ends everything" in out.read_text(), "the demo invites")
    said = out.read_text()
    # Receiver, its admin listener, Redis, provider, shop.
    assert len(listeners(said)) == 5
    console, token = re.findall(r"(http://\S+/console)   token: (\S+)", said)[0]
    with httpx.Client(trust_env=False) as browser:
        page = browser.get(console, headers={"Accept": "text/html"}, follow_redirects=True)
        assert page.status_code == 200  # it asks for the token
        api = browser.get(
            console.removesuffix("/console") + "/api/issuers",
            headers={"Authorization": f"Bearer {token}"},
        )
        assert api.status_code == 200
    commands = re.findall(r"^  (\S+ -m app (?:status|story) .*)$", said, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        done = subprocess.run(
            shlex.split(command), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
        assert "shop" in done.stdout, done

    demo.send_signal(signal.SIGTERM)

    assert demo.wait(30) == 0
    assert listeners(out.read_text()) == []
    assert list(tmp_path.iterdir()) == []


# With --once, because another demo could use the default ports.
@pytest.mark.parametrize("demo", [["--once"]], indirect=True, ids=["once"])
def test_a_signal_during_the_start_leaves_nothing_behind(
    demo: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    """The receiver may just have started its Redis."""
    wait_for(lambda: any(tmp_path.glob("*/data/server.pid")), "the embedded server is started")
    port = re.search(r"embedded_port = (\d+)", next(tmp_path.glob("*/receiver.toml")).read_text())
    assert port

    demo.send_signal(signal.SIGINT)

    assert demo.wait(30) == 130
    assert not _accepts_connections(int(port[1]))
    assert list(tmp_path.iterdir()) == []


async def test_a_logout_that_does_not_arrive_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = await run(
        tmp_path,
        Ports.choose(friendly=False),
        once=True,
        logout_url=f"http://127.0.0.1:{free_port()}/backchannel-logout",
    )

    printed = capsys.readouterr().out
    assert status == 1
    assert "never  receiver   has the token" in printed
    assert "WRONG: the provider's logout token was answered by no receiver" in printed
    assert "WRONG: the ended session is alive (GET /me: 200)" in printed
    assert "the other session" not in printed


async def test_a_child_that_cannot_start_is_shown_with_its_log(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        ports = replace(Ports.choose(friendly=False), provider=busy.getsockname()[1])
        with pytest.raises(ChildFault, match=r"(?s)The provider ended.*address already in use"):
            async with running_services(tmp_path, ports):
                pass


DEAD = Answer(401, "session_ended", 30)
ALIVE = Answer(200, None, 31)
GOOD = DemoOutcome(
    sent=5, received=10, marker="bcl:v1:{shop}:sid:x", cutoff=1, written=11, status=200,
    answered=12, ended=DEAD, neighbour=ALIVE,
)  # fmt: skip


def test_the_right_session_dead_and_its_neighbour_alive_is_a_success() -> None:
    assert GOOD.faults == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"ended": ALIVE}, "the ended session is alive"),
        ({"ended": Answer(503, "temporarily_unavailable", 30)}, "the ended session is alive"),
        ({"ended": Answer(401, "not_signed_in", 30)}, "the ended session is alive"),
        ({"neighbour": DEAD}, "the other session is not alive"),
        ({"neighbour": Answer(503, None, 30)}, "the other session is not alive"),
        ({"status": 503}, "the provider's logout token was answered 503"),
        ({"status": None}, "the provider's logout token was answered by no receiver"),
        ({"cutoff": None}, "there is no marker in Redis"),
    ],
    ids=str,
)
def test_everything_else_is_a_fault(changes: dict[str, Answer], fault: str) -> None:
    (found,) = replace(GOOD, **changes).faults  # type: ignore[arg-type]  # one of them
    assert found.startswith(fault)


def test_chosen_ports_are_free_and_different() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        taken = busy.getsockname()[1]
        ports = Ports.choose(friendly=False)
    assert len({ports.receiver, ports.admin, ports.redis, ports.provider, ports.shop}) == 5
    assert taken not in (ports.receiver, ports.admin)


def test_ports_are_chosen_quickly() -> None:
    def is_quick() -> bool:
        began = time.monotonic()
        Ports.choose(friendly=False)
        return time.monotonic() - began < 1

    wait_for(is_quick, "a choice takes less than a second")  # on a busy machine one may take longer
