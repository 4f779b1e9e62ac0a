"""``python -m app explain``: checks a token rule by rule, and prints values and settings.

Reads the token from the argument or, better, from standard input: arguments are visible in process
lists. Never prints the signature, and does not check whether the token was used before.
"""

import argparse
import asyncio
import sys

from app.backchannel.explain import WAS_VALID, ExplainLine, Mark, explain
from app.cli.argument_types import time_argument
from app.config.model import Settings
from app.errors import TokenRefused, to_http
from app.formatting import TIME_FORMS

HELP = "judge a logout token rule by rule; exit 1 if it would be refused"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--at",
        type=time_argument,
        metavar="TIME",
        help=f"check the times as of then instead of now: {TIME_FORMS}",
    )
    parser.add_argument(
        "token",
        nargs="?",
        default="-",
        metavar="TOKEN",
        help="the token; - or nothing: from standard input",
    )


def run(settings: Settings, arguments: argparse.Namespace) -> int:
    token = _read_stdin() if arguments.token == "-" else arguments.token.encode("utf-8", "replace")
    lines: list[ExplainLine] = []

    def report(line: ExplainLine) -> None:
        lines.append(line)
        _print(line)

    fault = asyncio.run(explain(settings, token.strip(), report, arguments.at))
    if fault is None:
        print("\naccepted")
        return 0
    then = next((f"; {line.name} {line.text}" for line in lines if line.name == WAS_VALID), "")
    verdict = "refused" if isinstance(fault, TokenRefused) else "not accepted now"
    print(f"\n{'would be refused now' if then else verdict} ({to_http(fault)[0]}): {fault}{then}")
    return 1


def _read_stdin() -> bytes:
    if sys.stdin.isatty():
        print("paste the token, then Enter and Ctrl-D:", file=sys.stderr)
    # As bytes: the rules refuse what is not text.
    return sys.stdin.buffer.read()


def _print(line: ExplainLine) -> None:
    match line.mark, line.name:
        case Mark.NOTE, "times":
            print(f"\ntimes are {line.text}")
        case Mark.NOTE, name if name == WAS_VALID:
            pass  # part of the last line
        case Mark.NOTE, _:
            print(f"{'':<17}{line.name}: {line.text}")
        case _:
            print(f"{line.mark:<4}  {line.name:<9}  {line.text}".rstrip())
