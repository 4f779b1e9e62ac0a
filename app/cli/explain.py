"""``python -m app explain``: a token, rule by rule, with what was there and what is configured.

Reads the token from the argument or, better, from standard input: arguments are in every
process list. Never prints the signature. Says nothing of whether the token was seen before.
"""

import argparse
import asyncio
import sys

from app.errors import TokenRefused, to_http
from app.explanation import Line, Mark, explain
from app.settings import Settings

from .words import time_argument

HELP = "judge a logout token rule by rule; exit 1 if it would be refused"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--at",
        type=time_argument,
        metavar="TIME",
        help="judge the times as of then: epoch seconds or ISO 8601 (else the token's own iat)",
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
    fault = asyncio.run(explain(settings, token.strip(), _print, arguments.at))
    if fault is None:
        print("\naccepted")
        return 0
    verdict = "refused" if isinstance(fault, TokenRefused) else "not accepted now"
    print(f"\n{verdict} ({to_http(fault)[0]}): {fault}")
    return 1


def _read_stdin() -> bytes:
    if sys.stdin.isatty():
        print("paste the token, then Enter and Ctrl-D:", file=sys.stderr)
    # As bytes: what is no text is for the rules to refuse.
    return sys.stdin.buffer.read()


def _print(line: Line) -> None:
    match line.mark, line.name:
        case Mark.NOTE, "times":
            print(f"\ntimes are {line.said}")
        case Mark.NOTE, "arriving now":
            print(f"arriving now, {line.said}")
        case Mark.NOTE, _:
            print(f"{'':<17}{line.name}: {line.said}")
        case _:
            print(f"{line.mark:<4}  {line.name:<9}  {line.said}".rstrip())
