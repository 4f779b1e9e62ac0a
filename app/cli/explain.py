"""``python -m app explain``: a token, rule by rule, with what was there and what is configured.

Reads the token from the argument or, better, from standard input: arguments are in every
process list. Never prints the signature. Says nothing of whether the token was seen before.
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
        help=f"judge the times as of then, in place of now: {TIME_FORMS}",
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
    told: list[ExplainLine] = []

    def tell(line: ExplainLine) -> None:
        told.append(line)
        _print(line)

    fault = asyncio.run(explain(settings, token.strip(), tell, arguments.at))
    if fault is None:
        print("\naccepted")
        return 0
    then = next((f"; {one.name} {one.text}" for one in told if one.name == WAS_VALID), "")
    verdict = "refused" if isinstance(fault, TokenRefused) else "not accepted now"
    print(f"\n{'would be refused now' if then else verdict} ({to_http(fault)[0]}): {fault}{then}")
    return 1


def _read_stdin() -> bytes:
    if sys.stdin.isatty():
        print("paste the token, then Enter and Ctrl-D:", file=sys.stderr)
    # As bytes: what is no text is for the rules to refuse.
    return sys.stdin.buffer.read()


def _print(line: ExplainLine) -> None:
    match line.mark, line.name:
        case Mark.NOTE, "times":
            print(f"\ntimes are {line.text}")
        case Mark.NOTE, name if name == WAS_VALID:
            pass  # it is in the last line
        case Mark.NOTE, _:
            print(f"{'':<17}{line.name}: {line.text}")
        case _:
            print(f"{line.mark:<4}  {line.name:<9}  {line.text}".rstrip())
