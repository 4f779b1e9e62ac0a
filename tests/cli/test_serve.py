"""``python -m app``: starting, stopping, and wrong usage, as at a terminal."""

import os
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest

from app import __version__
from app.cli import main
from tests.cli.conftest import Run
from tests.support.providers.provider import Provider
from tests.support.receiver import ROOT, Receiver, config, crashes, run_app, wait_for
from tests.support.servers.redis_server import RedisServer, free_port

# -- start ---------------------------------------------------------------------------------

NOT_AT_START = (
    "jinja2", "ua_parser", "joserfc", "app.admin.api", "app.account.api",
    "app.sessions", "app.canary.canary", "app.history", "app.cli.check", "app.telemetry.otel",
    "rich", "pygments", "opentelemetry", "backchannel_logout.guard", "backchannel_logout.listening",
)  # fmt: skip


@pytest.mark.slow
def test_disabled_features_are_not_imported_at_startup() -> None:
    code = "import sys, app.runtime.import_diet; from app.cli import serve; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    imported = done.stdout.split()
    assert "app.runtime.serve" in imported
    assert set(NOT_AT_START).isdisjoint(imported)


@pytest.mark.slow
def test_garbage_is_collected_once_after_the_imports() -> None:
    code = (
        "from app.cli import main; assert not gc.isenabled(); main(['serve', '--config', 'none'])"
    )
    done = subprocess.run(
        [sys.executable, "-c",
         f"import app.runtime.import_diet, gc; {code}; print(gc.isenabled())"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[-1] == "True"


# -- usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["receive"],
        ["serve", "--port", "8000"],
        ["serve", "settings.toml"],
        ["serve", "--config"],
        ["check", "--at", "1"],
        ["explain", "one", "two"],
        ["explain", "--at", "yesterday", "x"],
        ["explain", "--at", "nan", "x"],
        ["explain", "--at", "inf", "x"],
        ["explain", "--at"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: python -m app")
    assert "invalid _" not in captured.err


@pytest.mark.parametrize("command", [[], ["serve"], ["check"], ["explain"]], ids=" ".join)
def test_help_is_exit_status_0(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "usage: python -m app" in capsys.readouterr().out


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"{__version__}\n")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__


@pytest.mark.slow
def test_characters_that_the_terminal_cannot_show_are_escaped(tmp_path: Path) -> None:
    """A file name of bytes that are not UTF-8, and an ASCII-only terminal."""
    environ = {"PYTHONIOENCODING": "ascii:strict"}
    ended = run_app("check", "--config", "\udcffü.toml", cwd=tmp_path, env=environ)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "\\udcff\\xfc.toml: cannot be read (No such file or directory)" in ended.stdout


# -- starting ------------------------------------------------------------------------------


def test_a_reader_that_closes_the_pipe_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    """As in ``python -m app check | head -1``."""
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "app", "check", "--config", str(tmp_path / "missing")],
            cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_each_invalid_setting_has_a_line(run: Run) -> None:
    ended = run("serve", "listen = 1\ncolour = 2\n")
    assert (ended.status, ended.out) == (1, "")
    lines = ended.err.splitlines()
    assert lines[0] == "the settings cannot be used:"
    assert [line.partition(": ")[0] for line in lines[1:]] == [
        "  colour",
        "  issuers",
        "  listen",
        "  redis_url",
    ]


NOWHERE = (
    'issuer = "http://127.0.0.1:1"\nclient_id = "shop-web"\nredis_url = "redis://127.0.0.1:1"\n'
)


@pytest.mark.parametrize("setting", ["listen", "admin_listen"])
def test_a_busy_port_is_reported_in_one_sentence(setting: str, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = {"listen": 0, "admin_listen": 0} | {setting: port}
        listen = "".join(f'{name} = "127.0.0.1:{one}"\n' for name, one in ports.items())
        ended = run("serve", listen + NOWHERE)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        f"cannot start: {setting}: 127.0.0.1:{port} cannot be used (Address already in use)"
    ]


def test_an_address_of_another_machine_is_reported_in_one_sentence(run: Run) -> None:
    ended = run("serve", 'listen = "192.0.2.1:8000"\n' + NOWHERE)
    assert (ended.status, ended.out) == (1, "")
    (line,) = ended.err.splitlines()
    assert line.startswith("cannot start: listen: 192.0.2.1:8000 cannot be used (")


# -- running and stopping ------------------------------------------------------------------


def receiver_for(provider: Provider, server: RedisServer, directory: Path) -> Receiver:
    return Receiver(directory, config(server.url, f'issuer = "{provider.issuer}"'))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_with_0_despite_idle_connections(
    number: signal.Signals, provider: Provider, shared_redis: RedisServer, tmp_path: Path
) -> None:
    """A provider's idle connection lives for 75 s; a stop does not wait for it."""
    top = 'admin_token = "open-sesame"'
    text = config(shared_redis.url, f'issuer = "{provider.issuer}"', top=top)
    receiver = Receiver(tmp_path, text).start()
    addresses = [line for line in receiver.log.splitlines() if "http://" in line]
    try:
        with httpx.Client() as public, httpx.Client() as admin:
            assert public.post(receiver.url + "/backchannel-logout").status_code == 400
            assert admin.get(receiver.admin_url + "/livez").status_code == 200
            assert receiver.stop(number) == 0
            with pytest.raises(httpx.TransportError):
                public.get(receiver.url + "/backchannel-logout")
    finally:
        receiver.stop(signal.SIGKILL)
    # The addresses that operators need, in full.
    assert f"back-channel logout:      {receiver.url}/backchannel-logout" in addresses
    assert f"health and operations:    {receiver.admin_url}/readyz" in addresses
    assert f"console:                  {receiver.admin_url}/console" in addresses
    assert receiver.log_events("service", outcome="stopped")
    assert not crashes(receiver.log)


def test_it_starts_and_stops_without_provider_and_redis(tmp_path: Path) -> None:
    """It reports what is wrong, and works as soon as both are available."""
    issuer = f"http://127.0.0.1:{free_port()}"
    text = config(f"redis://127.0.0.1:{free_port()}/0", f'issuer = "{issuer}"')
    receiver = Receiver(tmp_path, text).start(ready=False)

    def both_are_contacted() -> bool:
        state = receiver.readyz().json()
        return bool(state["issuers"][issuer]["attempted"] and state["redis"]["error"])

    try:
        wait_for(both_are_contacted, "it says what is wrong", receiver)
        state = receiver.readyz().json()
        assert state["issuers"][issuer]["error"] == "connection"
        assert (state["redis"]["writable"], state["journal"]["writable"]) == (False, True)
        assert receiver.stop() == 0
    finally:
        receiver.stop(signal.SIGKILL)
