"""compose.yaml without an engine: its commands, files and environments, as processes.

``python -m tests.k8s.compose_scenario DIRECTORY`` runs in its own network, where each service's
name is loopback. Two browsers sign in at the shop; one session ends at the provider.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import yaml

from app.devtools.embedded_redis import find_server
from examples.demo.browser import Browser
from examples.demo.ports import Ports
from examples.demo.processes import Child
from examples.demo.scenario import DemoOutcome, end_session, sign_in
from examples.demo.services import Services
from tests.support.deployment.manifests import image_environment
from tests.support.receiver import ROOT, clean_environment, wait_for

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
# The images' entry points; the commands come from the file.
ENTRY = {
    "valkey": [],
    "receiver": [sys.executable, "-m", "app", "serve"],
    "provider": [sys.executable, "-m"],
    "shop": [sys.executable, "-m"],
}


class Service:
    """One service, with copies of its mounted files and adapted paths."""

    def __init__(self, name: str, directory: Path) -> None:
        told = SERVICES[name]
        self.log = directory / f"{name}.log"
        own = directory / name
        own.mkdir()
        moved = dict(self._mounted(told, own))
        for place, copy in moved.items():
            if copy.is_file():
                text = (ROOT / sources(told)[place]).read_text()
                copy.write_text(with_paths(text, moved))
        environ = {**told.get("environment", {})}
        if name == "receiver":
            environ = image_environment() | environ
        command = [*ENTRY[name], *told.get("command", [])]
        if name == "valkey":
            command[0] = find_server()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [with_paths(word, moved) for word in command],
                cwd=own, stdout=log, stderr=log,
                env=clean_environment() | {"PYTHONPATH": f"{ROOT}:{ROOT}/clients/python"}
                | {key: with_paths(value, moved) for key, value in environ.items()},
            )  # fmt: skip

    @staticmethod
    def _mounted(told: dict[str, Any], own: Path) -> Iterator[tuple[str, Path]]:
        for place, source in sources(told).items():
            copy = own / place.strip("/").replace("/", "-")
            if source.startswith("./"):
                copy.touch()
            else:
                copy.mkdir()
            yield place, copy


def sources(told: dict[str, Any]) -> dict[str, str]:
    """The mount points and their sources."""
    parts = [volume.split(":") for volume in told.get("volumes", [])]
    return {place: source for source, place, *_ in parts}


def with_paths(text: str, moved: dict[str, Path]) -> str:
    for place in sorted(moved, key=len, reverse=True):
        text = text.replace(place, str(moved[place]))
    return text


def published() -> set[str]:
    return {port for told in SERVICES.values() for port in told.get("ports", [])}


def is_ready() -> bool:
    try:
        ready = httpx.get("http://127.0.0.1:9000/readyz", trust_env=False)
        shop = httpx.get("http://127.0.0.1:8002/", trust_env=False)
    except httpx.TransportError:
        return False
    return ready.status_code == shop.status_code == 200


async def run_scenario(services: Services) -> DemoOutcome:
    async with Browser("laptop") as laptop, Browser("phone") as phone:
        neighbour = await sign_in(services, "laptop", laptop)
        ended = await sign_in(services, "phone", phone)
        return await end_session(services, ended, by=neighbour)


def main() -> None:
    directory = Path(sys.argv[1])
    processes = {name: Service(name, directory) for name in SERVICES}
    try:
        wait_for(is_ready, "receiver and shop are ready")
        no_child = cast("Child", None)  # the scenario uses the addresses only
        outcome = asyncio.run(
            run_scenario(
                Services(
                    Ports(redis=6379), no_child, no_child, no_child,
                    "redis://shop-listener:dev-shop-listener@valkey:6379/0", "demo-api-token",
                    "unused",
                )
            )
        )  # fmt: skip
        assert outcome.faults == [], outcome
        print(f"exactly the right session ended; published: {sorted(published())}")
    except BaseException:
        for name, service in processes.items():
            print(f"-- {name}\n{service.log.read_text()[-3000:]}")
        raise
    finally:
        for service in processes.values():
            service.process.kill()
            service.process.wait()


if __name__ == "__main__":
    os.umask(0o077)
    main()
