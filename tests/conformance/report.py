"""Results as lines for the terminal, and as Markdown."""

from collections.abc import Sequence

from tests.conformance.run import Result

HEAD = (
    "| specification | rule | case | level | expected | answer | |",
    "|---|---|---|---|---|---|---|",
)


def line(result: Result) -> str:
    """One result in the terminal."""
    word = "ok  " if result.good else "FAIL" if result.failed else "note"
    rule = f"[{result.requirement.section}] {result.name}"
    return f"{word}  {rule:<70} expected {result.expected}, got {result.answer}"


def row(result: Result) -> str:
    """One result in the table."""
    rule = "must" if result.requirement.binding else "advice"
    word = "ok" if result.good else "**fails**" if result.failed else "differs"
    module = f" (`{result.module.removeprefix('oidcc-client-test-')}`)" if result.module else ""
    cells = (
        result.requirement.section,
        result.requirement.text,
        result.name + module,
        rule,
        result.expected,
        result.answer,
        word,
    )
    return "| " + " | ".join(cells) + " |"


def summary(results: Sequence[Result]) -> str:
    """One sentence."""
    binding = [result for result in results if result.requirement.binding]
    advised = [result for result in results if not result.requirement.binding]
    modules = [result for result in results if result.module]
    return (
        f"{_share(binding)} of the mandatory rules hold, "
        f"including {_share(modules)} of the OpenID Foundation's plan, "
        f"and {_share(advised)} recommendations."
    )


def markdown(results: Sequence[Result], target: str) -> str:
    """The whole report."""
    rows = [row(result) for result in results]
    lines = [f"# Conformance of {target}", "", summary(results), "", *HEAD, *rows]
    return "\n".join(lines) + "\n"


def _share(results: Sequence[Result]) -> str:
    return f"{sum(result.good for result in results)} of {len(results)}"
