"""``python -m app serve``: receives logouts until SIGTERM."""

import argparse
import sys

import uvloop

from app.config.model import Settings
from app.devtools.embedded_redis import EmbeddedFault
from app.runtime.serve import serve
from app.server.sockets import StartFault
from app.telemetry.logs.output import LINES
from app.telemetry.logs.setup import set_up_log

HELP = "receive logouts until SIGTERM or Ctrl-C"


def run(settings: Settings, _: argparse.Namespace) -> int:
    set_up_log(settings)
    try:
        uvloop.run(serve(settings, announce=lambda line: print(line, flush=True)))
    except (StartFault, EmbeddedFault) as fault:
        LINES.flush()  # the cause appears above the message
        print(f"cannot start: {fault}", file=sys.stderr)
        return 1
    return 0
