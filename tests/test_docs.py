"""Links, file names and quoted messages in the documents are correct."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", ".github/*.md", "docs/**/*.md", "clients/python/*.md")
    for path in ROOT.glob(pattern)
)

SOURCES = (ROOT, ROOT / "app")
"""Where a path in a document can begin."""


def prose(document: Path) -> str:
    """The text without its code blocks."""
    text = (ROOT / document).read_text("utf-8")
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """The fragments of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    texts = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = (ROOT / document).parent / name if name else ROOT / document
        if not target.exists() or (fragment and fragment not in anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_source_file_that_is_named_exists(document: Path) -> None:
    names = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|lua|mjs))`", prose(document))
    assert [name for name in names if not any((root / name).exists() for root in SOURCES)] == []


def quotes() -> list[str]:
    """The messages that docs/troubleshooting.md quotes, split at each ``…``."""
    text = prose(Path("docs/troubleshooting.md"))
    marked = re.findall(r"(?<!\*)\*([a-z][^*]+)\*(?!\*)", text)
    _, _, table = text.partition("## The middleware answers 503")
    marked += re.findall(r"^\| `([^`]+)`", table.partition("\n## ")[0], re.MULTILINE)
    parts = {part.strip() for quote in marked for part in quote.split("…")}
    return sorted(part for part in parts if len(part) > 10)


@pytest.mark.parametrize("quote", quotes())
def test_a_quoted_message_exists_in_the_client_package(quote: str) -> None:
    sources = sorted((ROOT / "clients/python/backchannel_logout").rglob("*.py"))
    code = "".join(path.read_text("utf-8") for path in sources)
    assert quote in re.sub(r"\"\s*\n\s*f?\"", "", code)  # strings over several lines
