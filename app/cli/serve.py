"""``python -m app serve``: receive logouts until SIGTERM."""

import argparse
import logging
import sys

import uvloop

from app.embedded import EmbeddedFault
from app.service import StartFault
from app.service import serve as run_service
from app.settings import Settings

HELP = "receive logouts until SIGTERM or Ctrl-C"


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Nothing beside ``--config``."""


def run(settings: Settings, _: argparse.Namespace) -> int:
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    # The libraries tell of each request, with its URL; we tell of each token.
    for name in ("httpx", "httpcore", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its warnings are of broken requests: anybody could fill the log with them.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    try:
        uvloop.run(run_service(settings, announce=lambda line: print(line, flush=True)))
    except (StartFault, EmbeddedFault) as fault:
        print(f"can not start: {fault}", file=sys.stderr)
        return 1
    return 0
