"""A large fleet: what idle receivers cost, a scrape, and answers under each way to write the ACL.

Not part of `make bench`, because its figures take minutes each::

    python -m bench.fleet --apps 10000 --issuers 200 --acl one --seconds 60

``--tree`` measures another checkout, with the packages of its own ``.venv``. Prints one JSON line.
"""

import argparse
import contextlib
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import redis

from bench.load import send
from bench.machine import cpu_seconds
from bench.servers.receiver import PATH
from bench.tokens import minting
from tests.support.receiver import clean_environment
from tests.support.servers.redis_server import RedisServer, free_port

_ROOT = Path(__file__).parents[1]
_KINDS = ("~{}:sid:*", "~{}:sub:*", "~{}:all:*", "~{}:jti:*", "~{}:events", "~{}:meta", "&{}:feed")
_READS = "+xlen +xrange +xrevrange +hlen +hgetall +memory|usage"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.fleet")
    parser.add_argument("--apps", type=int, default=1000)
    parser.add_argument("--issuers", type=int, default=200)
    parser.add_argument("--receivers", type=int, default=3)
    parser.add_argument("--acl", choices=("none", "one", "each"), default="none")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--settle", type=float, default=30, help="before the measurement")
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--tree", type=Path, default=_ROOT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(_measured(options, Path(directory))), flush=True)


def _measured(options: argparse.Namespace, directory: Path) -> dict[str, object]:
    with contextlib.ExitStack() as stack:
        provider, mint = stack.enter_context(minting())
        server = RedisServer(directory / "redis").start()
        stack.callback(server.stop)
        client = stack.enter_context(server.client())
        url = server.url
        if options.acl != "none":
            apps = ["*"] if options.acl == "one" else [f"app-{n}" for n in range(options.apps)]
            _allow(client, apps)
            url = url.replace("redis://", "redis://receiver:pw@")
        text = _settings(url, provider.origin, options)
        running = [
            stack.enter_context(_receiver(options.tree, directory / str(n), text))
            for n in range(options.receivers)
        ]
        time.sleep(options.settle)
        before = [cpu_seconds(pid) for pid, _, _ in running]
        redis_before, began = _redis_seconds(client), time.monotonic()
        commands = client.info("stats")["total_commands_processed"]
        time.sleep(options.seconds)
        taken = time.monotonic() - began
        redis_share = (_redis_seconds(client) - redis_before) / taken
        commands = client.info("stats")["total_commands_processed"] - commands
        shares = [
            (cpu_seconds(pid) - at) / taken for at, (pid, _, _) in zip(before, running, strict=True)
        ]
        scrapes = [_scrape(admin) for _, _, admin in running]
        issuer = "https://0.example"
        tokens = mint.sign(options.tokens, issuers=(issuer,), audience=("client-0",))
        sent = send(running[0][1], [token.request(PATH) for token in tokens], rate=options.rate)
        latencies = sorted(sent.latencies)
        return {
            "apps": options.apps,
            "acl": options.acl,
            "tree": options.tree.name,
            "redis_idle_percent": round(100 * redis_share, 2),
            "redis_commands_a_second": round(commands / taken),
            "receiver_idle_percent": [round(100 * share, 2) for share in shares],
            "scrape_seconds_and_series": scrapes,
            "statuses": dict(sent.statuses),
            "p50_ms": round(1000 * latencies[len(latencies) // 2], 1),
            "p99_ms": round(1000 * latencies[len(latencies) * 99 // 100], 1),
        }


def _allow(client: redis.Redis, apps: list[str]) -> None:
    keys = [kind.format(f"bcl:v1:{{{app}}}") for app in apps for kind in _KINDS]
    selectors = " ".join(f"%R~bcl:v1:{{{app}}}:app:*" for app in apps)
    client.execute_command(
        "ACL", "SETUSER", "receiver", "on", ">pw", "resetchannels", *keys, "~bcl:v1:refused",
        "~bcl:v1:hash_key", "~bcl:v1:audit", "~bcl:v1:generation", "~bcl:v1:readings", "+@all",
        f"({selectors} {_READS})",
    )  # fmt: skip


def _settings(url: str, origin: str, options: argparse.Namespace) -> str:
    lines = [f'redis_url = "{url}"']
    for n in range(options.issuers):
        clients = ", ".join(
            f'{{client_id = "client-{app}", app = "app-{app}"}}'
            for app in range(n, options.apps, options.issuers)
        )
        lines += ["[[issuers]]", f'issuer = "https://{n}.example"', f'jwks_uri = "{origin}/jwks"']
        lines += [f"clients = [{clients}]"]
    return "\n".join(lines)


@contextlib.contextmanager
def _receiver(tree: Path, directory: Path, text: str) -> Iterator[tuple[int, int, int]]:
    """Its process id, and its ports."""
    directory.mkdir()
    port, admin = free_port(), free_port()
    top = f'listen = "127.0.0.1:{port}"\nadmin_listen = "127.0.0.1:{admin}"\ndata_dir = "data"\n'
    (directory / "settings.toml").write_text(top + text)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [tree / ".venv/bin/python", "-m", "app", "serve", "--config", "settings.toml"],
            cwd=directory,
            stdout=log,
            stderr=log,
            env=clean_environment() | {"PYTHONPATH": str(tree)},
        )
    try:
        deadline = time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=5).close()
                break
            if time.monotonic() > deadline or process.poll() is not None:
                log_text = (directory / "log").read_text()
                raise SystemExit(f"the receiver is not ready: {log_text[-2000:]}")
            time.sleep(0.1)
        yield process.pid, port, admin
    finally:
        process.kill()
        process.wait()


def _redis_seconds(client: redis.Redis) -> float:
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _scrape(admin: int) -> tuple[float, int]:
    began = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=60) as answer:
        text = answer.read()
    seconds = time.monotonic() - began
    return round(seconds, 3), sum(not line.startswith(b"#") for line in text.splitlines())


if __name__ == "__main__":
    main()
