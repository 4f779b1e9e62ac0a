"""The command line: one file per command. Only the requested command is imported."""

import argparse
import gc
import io
import logging
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from app import __version__
from app.cli.common import WrongUsage
from app.cli.table import CheckVerdict, Row, print_table
from app.config.load import SettingsFault, load_all
from app.devtools.embedded_redis import EmbeddedFault

COMMANDS = (
    "serve", "check", "explain", "journal", "keys", "watch", "status", "story", "revoke",
    "extend-markers",
)  # fmt: skip

# These query Redis, whose keys are UTF-8. File names and the input of `explain` may be any bytes.
_QUERY_REDIS = ("keys", "watch", "status", "story", "revoke", "extend-markers")


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status (0 good, 1 a fault, 2 wrong usage, 3 warnings)."""
    try:
        status = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # As in `... | head -1`. Without a new target, Python's own flush at the exit fails again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    return status


def _run(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Receives OpenID Connect back-channel logouts and publishes them to Redis.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    given = sys.argv[1:] if argv is None else argv
    for name in [command for command in COMMANDS if given[:1] == [command]] or COMMANDS:
        command = import_module(f"{__name__}.{name.replace('-', '_')}")
        sub = commands.add_parser(name, help=command.HELP, description=command.HELP)
        sub.add_argument(
            "--config", type=Path, metavar="FILE", help="settings, a TOML file (else BCL_CONFIG)"
        )
        if hasattr(command, "add_arguments"):
            command.add_arguments(sub)
        sub.set_defaults(run=command.run, command=name)
    gc.enable()  # see `app.runtime.import_diet`
    arguments = parser.parse_args(given)
    _prepare_output()
    if arguments.command in _QUERY_REDIS and not all(map(_is_text, _texts(arguments))):
        print(f"{parser.prog}: an argument is not UTF-8 text", file=sys.stderr)
        return 2
    try:
        arguments.loaded = load_all(arguments.config, tenants_dir=getattr(arguments, "dir", None))
        status: int = arguments.run(arguments.loaded.settings, arguments)
    except SettingsFault as fault:
        return _report_settings(fault, arguments.command)
    except WrongUsage as fault:
        print(f"{parser.prog} {arguments.command}: {fault}", file=sys.stderr)
        return 2
    except EmbeddedFault as fault:
        print(fault, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return status


def _report_settings(fault: SettingsFault, command: str) -> int:
    """Print the faults of the settings; returns the exit status."""
    if command == "check":
        return print_table([Row(CheckVerdict.WRONG, "settings", line) for line in fault.faults])
    print("the settings cannot be used:", file=sys.stderr)
    for line in fault.faults:
        print(f"  {line}", file=sys.stderr)
    return 1


# As shells report a program that Ctrl-C has ended.
_INTERRUPTED = 130

# As shells report a program that SIGPIPE has ended.
_PIPE_CLOSED = 141


def _texts(arguments: argparse.Namespace) -> Iterator[str]:
    for value in vars(arguments).values():
        values = value if isinstance(value, list) else [value]
        yield from (item for item in values if isinstance(item, str))


def _is_text(argument: str) -> bool:
    """Python decodes other bytes as lone surrogates, which cannot be part of a key in Redis."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _prepare_output() -> None:
    # A character that the terminal cannot encode is escaped and causes no traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # The tables already show what our modules log. `serve` sets up its own log.
    logging.getLogger("app").addHandler(logging.NullHandler())
