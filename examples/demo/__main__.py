"""``python -m examples.demo [--once]``: 0 when the right session died and its neighbour lives."""

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
from .scene import Outcome, SceneFault, end_session, sign_in
from .stage import Stage, set_up

# Of a terminal that is closed, of Ctrl-C, and of everything that ends services.
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

INTERRUPTED = 130


async def play(stage: Stage) -> Outcome:
    """Two browsers sign in, one session ends; tells what happened, as it happens."""
    async with Browser("Demo laptop") as laptop, Browser("Demo phone") as phone:
        neighbour = await sign_in(stage, "laptop", laptop)
        ended = await sign_in(stage, "phone", phone)
        transcript.signed_in([neighbour, ended])
        outcome = await end_session(stage, ended, by=neighbour)
    transcript.outcome(outcome, ended, neighbour)
    transcript.verdict(outcome, ended, neighbour)
    return outcome


async def run(directory: Path, ports: Ports, *, once: bool, logout_url: str | None = None) -> int:
    """The whole demo, to the exit status. ``logout_url``: see `set_up`."""
    print("Starting on this machine, on loopback only:\n", flush=True)
    try:
        async with set_up(
            directory, ports, logout_url=logout_url, tell=transcript.started
        ) as stage:
            outcome = await play(stage)
            if outcome.faults:
                print(f"\n{stage.receiver.end_of_log()}")
                return 1
            if not once:
                transcript.invitation(stage)
                # A signal is the good end of this, and cancels it.
                with contextlib.suppress(asyncio.CancelledError):
                    await stage.broken()
            return 0
    except (ChildFault, SceneFault, NotOnThisPage) as fault:
        print(f"\n{fault}", file=sys.stderr)
    except (httpx.HTTPError, RedisError) as fault:
        print(f"\nSomething of it does not answer: {fault!r}", file=sys.stderr)
    return 1


async def until_signal(*, once: bool) -> int:
    """Run the demo; a signal ends it as its end does: children first, then their files."""
    demo = asyncio.create_task(_run_in_temporary_directory(once=once))
    loop = asyncio.get_running_loop()
    interrupted = False

    def interrupt() -> None:
        # Once: a second Ctrl-C must not break off the end of the children.
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
