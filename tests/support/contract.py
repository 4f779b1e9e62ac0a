"""The text of `docs/contract.md`."""

import re

from tests.support.receiver import ROOT

CONTRACT = ROOT.joinpath("docs/contract.md").read_text("utf-8")

BLOCKS = re.findall(r"^```(\S+)\n(.*?)^```$", CONTRACT, re.MULTILINE | re.DOTALL)
"""The fenced blocks of the contract: language and content."""


def block(language: str, beginning: str = "") -> str:
    """The only block of a language that starts with ``beginning``."""
    [only] = [text for name, text in BLOCKS if name == language and text.startswith(beginning)]
    return str(only)
