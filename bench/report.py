"""Stores the result of each part and writes the report into `docs/performance.md`.

Parts can run one at a time; the report uses the newest result of each. It replaces only the text
between markers, so that hand-written text around them stays.
"""

import json
import os
import platform
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.figures import table
from bench.plot import bars, stack

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / ".cache/bench/results"


@dataclass(frozen=True, slots=True)
class Claim:
    """A goal for the project's speed. ``held`` is None if it could not be measured."""

    what: str
    goal: str
    measured: str
    held: bool | None


@dataclass(frozen=True, slots=True)
class Result:
    """A part's Markdown table, its claims, and the numbers for plots and the summary."""

    table: str
    claims: Sequence[Claim] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def save(part: str, result: Result, foreign: float | None, directory: Path = RESULTS) -> None:
    """``foreign`` is the share of all cores that other processes used during the run, or None if
    that does not matter."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{part}.json").write_text(
        json.dumps(asdict(result) | {"foreign": foreign, "where": machine()}, indent=1)
    )


def saved(directory: Path = RESULTS) -> dict[str, Result]:
    """The newest result of each part, with the machine and other load noted below its table."""
    results = {}
    for path in sorted(directory.glob("*.json")):
        result = json.loads(path.read_text())
        claims = [Claim(**claim) for claim in result["claims"]]
        noise = result["where"]
        if result["foreign"] is not None:
            noise += f" Other processes used {result['foreign']:.0%} of the cores."
        results[path.stem] = Result(f"{result['table']}\n\n*{noise}*", claims, result["facts"])
    return results


def between(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` between the markers of ``name``. Raises ``ValueError`` unless the
    markers occur exactly once."""
    before, _, after = _split(text, name)
    return f"{before}\n{content.strip()}\n{after}"


def inside(text: str, name: str) -> str:
    """The text between the markers of ``name``; raises as `between` does."""
    return _split(text, name)[1]


def _split(text: str, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise ValueError(f"the text must have {begin} and {end} once each, in this order")
    before, _, rest = text.partition(begin)
    content, _, after = rest.partition(end)
    return before + begin, content, end + after


def claims_table(results: Mapping[str, Result], parts: Sequence[str], before: str = "") -> str:
    """Every claim, in the order of ``parts``. Until each part has a result, rows of the table
    ``before`` that have no new value stay."""
    verdicts = {True: "yes", False: "**no**", None: "not measured"}
    claims = [claim for part in parts if part in results for claim in results[part].claims]
    rows = [(claim.what, claim.goal, claim.measured, verdicts[claim.held]) for claim in claims]
    head, marks, *new = table(("claim", "goal", "measured", "held"), rows).splitlines()
    old = [] if set(parts) <= set(results) else before.strip().splitlines()[2:]
    by_claim = {line.split(" | ")[0]: line for line in (*old, *new)}
    return "\n".join((head, marks, *by_claim.values()))


def machine() -> str:
    """The machine and the date of a measurement, in one line."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {model[1] if model else platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}."
    )


def summary(facts: Mapping[str, Any]) -> str:
    """The first paragraph of the page, from a throughput's ``facts``."""
    ratios = {"the ceiling" if n == "ceiling" else n: r for n, r in facts["ratios"].items()}
    text = (
        f"On one core the receiver handles {facts['rates']['receiver']:,.0f} logouts a second: "
        f"{', '.join(f'{ratio:.2g} times {name}' for name, ratio in ratios.items())}, "
        "a bare ASGI function that only verifies the signature."
    )
    lines = textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, "", "![Logouts a second on one core](performance.svg)"])


def write(parts: Sequence[str], root: Path = ROOT) -> None:
    """Write the stored results into the page and draw the plots. Results of parts that did not run
    stay as they are."""
    results = saved()
    page = root / "docs/performance.md"
    text = page.read_text()
    text = between(text, "claims", claims_table(results, parts, inside(text, "claims")))
    for part in parts:
        if part in results and f"<!-- bench:{part} -->" in text:
            text = between(text, part, results[part].table)
    facts = results["throughput"].facts if "throughput" in results else {}
    if facts:
        text = between(text, "summary", summary(facts))
    page.write_text(text)
    if facts:
        title = "Logouts a second on one core"
        (root / "docs/performance.svg").write_text(bars(title, facts["rates"]))
        title = "Where the processor time of one logout goes, in microseconds"
        (root / "docs/one-logout.svg").write_text(stack(title, facts["segments"]))
