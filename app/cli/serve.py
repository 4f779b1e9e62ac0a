"""``python -m app serve``: receives logouts until SIGTERM."""

import argparse
import sys
from collections.abc import Mapping
from functools import partial

import uvloop

from app.cli.common import add_dir
from app.config.load import Loaded, Tenant, load_all
from app.config.model import Settings
from app.devtools.embedded_redis import EmbeddedFault
from app.runtime.serve import serve
from app.server.shutdown import ignore_hangup
from app.server.sockets import StartFault
from app.telemetry.logs.output import LINES
from app.telemetry.logs.setup import set_up_log

HELP = "receive logouts until SIGTERM or Ctrl-C"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dir(parser)


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    ignore_hangup()
    set_up_log(settings)

    def load(running: Mapping[str, Tenant]) -> Loaded:
        return load_all(arguments.config, tenants_dir=arguments.dir, running=running)

    try:
        announce = partial(print, flush=True)
        uvloop.run(serve(arguments.loaded, load, announce))
    except (StartFault, EmbeddedFault) as fault:
        LINES.flush()  # the cause appears above the message
        print(f"cannot start: {fault}", file=sys.stderr)
        return 1
    return 0
