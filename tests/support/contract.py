"""`docs/contract.md`, as tests read it."""

import re

from tests.support.receiver import ROOT

CONTRACT = ROOT.joinpath("docs/contract.md").read_text("utf-8")

BLOCKS = re.findall(r"^```(\S+)\n(.*?)^```$", CONTRACT, re.MULTILINE | re.DOTALL)
"""The fenced blocks of the contract: language and content."""


def block(language: str, beginning: str = "") -> str:
    """The one block of a language that begins so."""
    [found] = [text for name, text in BLOCKS if name == language and text.startswith(beginning)]
    return str(found)
