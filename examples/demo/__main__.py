"""``python -m examples.demo [--once]``: exits with 0 if exactly the right session ended."""

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from pathlib import Path

import httpx
from redis.exceptions import RedisError

from . import transcript
from .browser import Browser, NotOnThisPage
from .ports import Ports
from .processes import ChildFault
from .scenario import DemoOutcome, ScenarioFault, end_session, sign_in
from .services import Services, running_services

# A closed terminal, Ctrl-C, and service managers.
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

INTERRUPTED = 130


async def run_scenario(services: Services) -> DemoOutcome:
    """Signs two browsers in, ends one session, and prints what happens."""
    async with Browser("Demo laptop") as laptop, Browser("Demo phone") as phone:
        neighbour = await sign_in(services, "laptop", laptop)
        ended = await sign_in(services, "phone", phone)
        transcript.signed_in([neighbour, ended])
        outcome = await end_session(services, ended, by=neighbour)
    transcript.outcome(outcome, ended, neighbour)
    transcript.verdict(outcome, ended, neighbour)
    return outcome


async def run(directory: Path, ports: Ports, *, once: bool, logout_url: str | None = None) -> int:
    """Runs the demo and returns the exit status. ``logout_url``: see `running_services`."""
    print("Starting on this machine, on loopback only:\n", flush=True)
    try:
        async with running_services(
            directory, ports, logout_url=logout_url, report=transcript.started
        ) as services:
            outcome = await run_scenario(services)
            if outcome.faults:
                print(f"\n{services.receiver.end_of_log()}")
                return 1
            if not once:
                transcript.invitation(services)
                # A signal cancels this; that is its normal end.
                with contextlib.suppress(asyncio.CancelledError):
                    await services.broken()
            return 0
    except (ChildFault, ScenarioFault, NotOnThisPage) as fault:
        print(f"\n{fault}", file=sys.stderr)
    except (httpx.HTTPError, RedisError) as fault:
        print(f"\nA service does not answer: {fault!r}", file=sys.stderr)
    return 1


async def until_signal(*, once: bool) -> int:
    """Runs the demo until a signal, which ends the children first, then removes their files."""
    demo = asyncio.create_task(_run_in_temporary_directory(once=once))
    loop = asyncio.get_running_loop()
    interrupted = False

    def interrupt() -> None:
        # Once: a second Ctrl-C must not interrupt the shutdown of the children.
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            demo.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupt)
    try:
        return await demo
    except asyncio.CancelledError:
        return INTERRUPTED
    finally:
        if interrupted:
            print("\nEnded.", flush=True)


async def _run_in_temporary_directory(*, once: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="backchannel-logout-demo-") as directory:
        return await run(Path(directory), Ports.choose(friendly=not once), once=once)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the scripted logout")
    return asyncio.run(until_signal(once=parser.parse_args().once))


if __name__ == "__main__":
    sys.exit(main())
