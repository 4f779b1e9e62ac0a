"""What a part of the bench has found, kept in a file until the report is written.

Parts may be run one by one; the report takes the newest of each. It stands between markers in
`docs/performance.md` and in the README, so that what is around them stays as somebody wrote it.
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
    """Something that the project says of its speed. ``held`` None: it could not be measured."""

    what: str
    goal: str
    measured: str
    held: bool | None


@dataclass(frozen=True, slots=True)
class Result:
    """A part's Markdown, its claims, and the numbers that a plot or a sentence needs."""

    table: str
    claims: Sequence[Claim] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def save(part: str, result: Result, foreign: float | None, directory: Path = RESULTS) -> None:
    """``foreign`` is the share of all cores that others took meanwhile; None where that does not
    matter."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{part}.json").write_text(
        json.dumps(asdict(result) | {"foreign": foreign, "where": machine()}, indent=1)
    )


def saved(directory: Path = RESULTS) -> dict[str, Result]:
    """The newest result of each part. Below its table it says what disturbed it."""
    results = {}
    for path in sorted(directory.glob("*.json")):
        found = json.loads(path.read_text())
        claims = [Claim(**claim) for claim in found["claims"]]
        noise = found["where"]
        if found["foreign"] is not None:
            noise += f" Others took {found['foreign']:.0%} of the cores meanwhile."
        results[path.stem] = Result(f"{found['table']}\n\n*{noise}*", claims, found["facts"])
    return results


def between(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` between the markers of ``name``. Raises ``ValueError`` where
    the markers are not there exactly once."""
    before, _, after = _parted(text, name)
    return f"{before}\n{content.strip()}\n{after}"


def inside(text: str, name: str) -> str:
    """What is between the markers of ``name``; raises as `between` does."""
    return _parted(text, name)[1]


def _parted(text: str, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        raise ValueError(f"the text must have {begin} and {end} once each, in this order")
    before, _, rest = text.partition(begin)
    content, _, after = rest.partition(end)
    return before + begin, content, end + after


def claims_table(results: Mapping[str, Result], parts: Sequence[str], before: str = "") -> str:
    """Every claim, in the order of ``parts``. While a part has no result here, a row of the table
    ``before`` stays where none of the new ones takes its place."""
    verdicts = {True: "yes", False: "**no**", None: "not measured"}
    claims = [claim for part in parts if part in results for claim in results[part].claims]
    rows = [(one.what, one.goal, one.measured, verdicts[one.held]) for one in claims]
    head, marks, *new = table(("claim", "goal", "measured", "held"), rows).splitlines()
    old = [] if set(parts) <= set(results) else before.strip().splitlines()[2:]
    by_claim = {line.split(" | ")[0]: line for line in (*old, *new)}
    return "\n".join((head, marks, *by_claim.values()))


def machine() -> str:
    """Where this was measured, in one line."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {model[1] if model else platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}."
    )


def sentence(facts: Mapping[str, Any]) -> str:
    """What the README says of a throughput's ``facts``."""
    ratios = {"the ceiling" if n == "ceiling" else n: r for n, r in facts["ratios"].items()}
    told = (
        f"On one core it takes {facts['rates']['receiver']:,.0f} logouts a second: "
        f"{', '.join(f'{ratio:.2g} times {name}' for name, ratio in ratios.items())}, "
        "a bare ASGI function that only verifies the signature. Latency, memory, storms and "
        "start-up are in [docs/performance.md](docs/performance.md); `make bench` measures all of "
        "it anew."
    )
    lines = textwrap.wrap(told, 100, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*lines, "", "![Logouts a second on one core](docs/performance.svg)"])


def write(parts: Sequence[str], root: Path = ROOT) -> None:
    """Write what there is into the documents and draw the plots. What was not measured here stays
    as it is there."""
    results = saved()
    page = root / "docs/performance.md"
    text = page.read_text()
    text = between(text, "claims", claims_table(results, parts, inside(text, "claims")))
    for part in parts:
        if part in results and f"<!-- bench:{part} -->" in text:
            text = between(text, part, results[part].table)
    page.write_text(text)
    if "throughput" in results and (facts := results["throughput"].facts):
        readme = root / "README.md"
        readme.write_text(between(readme.read_text(), "sentence", sentence(facts)))
        title = "Logouts a second on one core"
        (root / "docs/performance.svg").write_text(bars(title, facts["rates"]))
        title = "Where the processor time of one logout goes, in microseconds"
        (root / "docs/one-logout.svg").write_text(stack(title, facts["segments"]))
