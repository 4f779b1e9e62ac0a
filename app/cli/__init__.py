"""The command line: a file for each command."""

import argparse
from pathlib import Path

from app import __version__
from app.settings import SettingsFault, load

from . import check, explain, serve


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status (0 good, 1 a fault, 2 wrong usage)."""
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Receives OpenID Connect back-channel logouts and publishes them to Redis.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (serve, check, explain):
        name = command.__name__.rpartition(".")[2]
        sub = commands.add_parser(name, help=command.HELP, description=command.HELP)
        sub.add_argument(
            "--config", type=Path, metavar="FILE", help="settings, a TOML file (else BCL_CONFIG)"
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run, command=name)
    arguments = parser.parse_args(argv)
    try:
        settings = load(arguments.config)
    except SettingsFault as fault:
        return check.report_settings(fault, arguments.command)
    status: int = arguments.run(settings, arguments)
    return status
