"""Runs the receiver as operators do: as a process with a settings file."""

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

ROOT = Path(__file__).parents[2]


def clean_environment() -> dict[str, str]:
    """The environment without the settings of the user who runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BCL_")}


def run_app(
    *arguments: str, cwd: Path, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m app ...`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=cwd, input=stdin, capture_output=True, text=True, timeout=60, check=False,
        env=clean_environment() | {"PYTHONPATH": str(ROOT)} | (env or {}),
    )  # fmt: skip


class Receiver:
    """A running ``python -m app serve`` on free ports. `log` is its output.

    ``program`` replaces ``python -m app``.
    """

    def __init__(
        self,
        directory: Path,
        config: str,
        env: dict[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "app"),
    ) -> None:
        self.directory = directory
        self.program = program
        self.log_path = directory / "receiver.log"
        self._log_begins = 0
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "settings.toml").write_text(config)
        self.env = env or {}
        self.stderr: int | None = None
        """The file descriptor of its standard error, in place of the log."""
        self.process: subprocess.Popen[bytes] | None = None
        self.url = self.admin_url = self.redis_url = ""
        self.http: httpx.Client

    @property
    def log(self) -> str:
        """Its output since the last start."""
        return self.log_path.read_bytes()[self._log_begins :].decode()

    def log_events(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """The events with this name and these fields in `log`."""
        # The last line may be half written: a file shows a write page by page.
        whole = self.log.rpartition("\n")[0]
        lines = (line for line in whole.splitlines() if line.startswith("{"))
        return matching((json.loads(line) for line in lines), event, fields)

    def wait_for_log_event(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """`log_events`, once there is one: a thread writes the log, possibly after the answer."""
        wait_for(lambda: self.log_events(event, **fields), f"the log has {event} {fields}", self)
        return self.log_events(event, **fields)

    @property
    def full_log(self) -> str:
        """Its output since the first start."""
        return self.log_path.read_text()

    def start(self, *, ready: bool = True) -> Self:
        """Start it and wait until it listens, with ``ready`` until it is ready."""
        self.log_path.touch()
        self._log_begins = self.log_path.stat().st_size
        if hasattr(self, "http"):
            self.http.close()
        # Only loopback, without a proxy: loading no certificates saves time.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.http = httpx.Client(timeout=10, trust_env=False, verify=context)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, "serve", "--config", "settings.toml"],
                cwd=self.directory, stdout=log, stderr=log if self.stderr is None else self.stderr,
                env=clean_environment() | {"PYTHONPATH": str(ROOT)} | self.env,
            )  # fmt: skip
        try:
            wait_for(self._announced, "the receiver prints its addresses", self)
            if ready:
                wait_for(lambda: self.readyz().status_code == 200, "the receiver is ready", self)
        except BaseException:  # or it would disturb later tests
            if self.process.poll() is None:
                self.stop(signal.SIGKILL)
            raise
        return self

    def _announced(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the receiver ended:\n{self.log}")
        public = re.search(r"back-channel logout:\s+(http://\S+)/backchannel-logout", self.log)
        admin = re.search(r"health and operations:\s+(http://\S+)/readyz", self.log)
        embedded = re.search(r"embedded Redis for apps:\s+(redis://\S+)", self.log)
        if public and admin:
            self.url, self.admin_url = public[1], admin[1]
            self.redis_url = embedded[1] if embedded else ""
        return bool(public and admin)

    def readyz(self) -> httpx.Response:
        return self.http.get(self.admin_url + "/readyz")

    def post(self, token: str, **fields: str) -> httpx.Response:
        """POST a logout token as providers do."""
        fields = {"logout_token": token, **fields}
        return self.http.post(self.url + "/backchannel-logout", data=fields)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it, with SIGKILL for a crash. Returns the exit status."""
        if hasattr(self, "http"):
            self.http.close()
        if self.process is None:
            return 0
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.process = None
        return status


def crashes(log: str) -> list[str]:
    """The lines with an exception."""
    return [line for line in log.splitlines() if "Traceback" in line or '"exception":' in line]


def matching(
    events: Iterable[dict[str, Any]], event: str, fields: dict[str, Any]
) -> list[dict[str, Any]]:
    """The events with this name and these fields."""
    wanted = {"event": event, **fields}.items()
    return [it for it in events if wanted <= {k: v for k, v in it.items() if _plain(v)}.items()]


def log_events(caplog: pytest.LogCaptureFixture, event: str, **fields: Any) -> list[dict[str, Any]]:
    """`Receiver.log_events` for code that runs in the test's own process."""
    ours = (record.msg for record in caplog.records if isinstance(record.msg, dict))
    return matching(ours, event, fields)


def _plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def wait_for(
    condition: Any,
    what: str,
    receiver: Receiver | None = None,
    *,
    within: float = 60,
    every: float = 0.02,
) -> None:
    """Poll until the condition holds, every ``every`` seconds. Fails with ``what`` after
    ``within`` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not true within {within} s: {what}\n{receiver.log if receiver else ''}"
            )
        time.sleep(every)


SHOP = '[{client_id = "shop-web", app = "shop"}]'


def config(
    redis_url: str,
    *issuers: str,
    top: str = "",
    clients: str = SHOP,
    ports: tuple[int, int] = (0, 0),
) -> str:
    """A settings file. Each of ``issuers`` is the body of one table. ``ports`` are for a receiver
    that restarts at its address; by default it takes free ones."""
    lines = [
        f'listen = "127.0.0.1:{ports[0]}"',
        f'admin_listen = "127.0.0.1:{ports[1]}"',
        f'redis_url = "{redis_url}"',
        top,
    ]
    for issuer in issuers:
        lines += ["[[issuers]]", issuer, f"clients = {clients}"]
    return "\n".join(lines) + "\n"
