"""The apps of `tests.account.apps`, each in a process of its own."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx

from tests.account.account_fixture import SHOP_TOKEN, AccountClient
from tests.support.receiver import ROOT, clean_environment, wait_for
from tests.support.servers.redis_server import free_port


@contextlib.contextmanager
def running_apps(account: AccountClient, *kinds: str) -> Iterator[dict[str, str]]:
    """The address of each; they start at the same time."""
    environ = clean_environment() | {
        "PYTHONPATH": f"{ROOT}:{ROOT}/clients/python", "ACCOUNT_URL": account.url,
        "ACCOUNT_TOKEN": SHOP_TOKEN, "REDIS_URL": account.redis_url, "APP": "shop",
    }  # fmt: skip
    ports = {kind: free_port() for kind in kinds}
    with contextlib.ExitStack() as stack:
        for kind, port in ports.items():
            command = [sys.executable, "-m", "tests.account.apps", kind, str(port)]
            process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, env=environ))
            stack.callback(process.terminate)
        addresses = {kind: f"http://127.0.0.1:{port}" for kind, port in ports.items()}
        for kind, address in addresses.items():
            wait_for(lambda at=address: _answers(at), f"{kind} answers", within=60)
        yield addresses


def _answers(address: str) -> bool:
    try:
        return (
            httpx.get(f"{address}/account/active-sessions.js", trust_env=False).status_code == 200
        )
    except httpx.TransportError:
        return False


def sign_in_query(session: dict[str, Any]) -> dict[str, Any]:
    """What an app's ``/sign-in`` is told."""
    return {**{name: session[name] for name in ("iss", "sub", "sid")}, "iat": session["login_at"]}
