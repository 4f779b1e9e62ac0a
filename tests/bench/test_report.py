"""The report replaces the tables between their markers and nothing else of a page."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.figures import percentile, spread, table
from bench.plot import bars, stack
from bench.report import ROOT, Claim, Result, between, claims_table, save, saved, summary

PAGE = "above\n<!-- bench:latency -->\nold\n<!-- /bench:latency -->\nbelow\n"


def test_a_table_is_written_between_its_markers_and_nowhere_else() -> None:
    written = between(PAGE, "latency", "| new |")
    assert written == PAGE.replace("old", "| new |")
    assert between(written, "latency", "old") == PAGE


@pytest.mark.parametrize(
    "page",
    ["above", PAGE + PAGE, "<!-- /bench:latency --><!-- bench:latency -->"],
    ids=["none", "twice", "reversed"],
)
def test_a_page_without_its_markers_is_left_alone(page: str) -> None:
    with pytest.raises(ValueError, match="bench:latency"):
        between(page, "latency", "new")


def test_the_page_has_a_place_for_every_result() -> None:
    page = (ROOT / "docs/performance.md").read_text()
    for part in ("summary", "claims", "throughput", "algorithms", "latency", "processes",
                 "sustained_load", "memory", "startup", "scaling", "guard", "near_cache",
                 "delivery", "catch_up", "reader_cost"):  # fmt: skip
        assert between(page, part, "new") != page


def test_a_result_is_kept_for_a_later_report(tmp_path: Path) -> None:
    claim = Claim("lost", "0", "0", held=True)
    save("latency", Result("| table |", [claim], {"rate": 1.5}), 0.07, tmp_path)
    result = saved(tmp_path)["latency"]
    assert (result.claims, result.facts) == ([claim], {"rate": 1.5})
    assert result.table.startswith("| table |\n\n*")
    assert "Other processes used 7% of the cores." in result.table


def test_a_claim_that_does_not_hold_is_reported() -> None:
    claims = [
        Claim("lost", "0", "3", held=False),
        Claim("processes", "2", "no setting", held=None),
    ]
    lines = claims_table({"latency": Result("", claims)}, ["absent", "latency"]).splitlines()
    assert lines[2:] == [
        "| lost | 0 | 3 | **no** |",
        "| processes | 2 | no setting | not measured |",
    ]


def test_rows_of_parts_that_did_not_run_stay_until_every_part_has_run() -> None:
    before = claims_table({"memory": Result("", [Claim("bytes", "9", "8", held=True)]),
                           "latency": Result("", [Claim("lost", "0", "3", held=False)])},
                          ["memory", "latency"])  # fmt: skip
    results = {
        "latency": Result(
            "", [Claim("lost", "0", "0", held=True), Claim("RSS", "1", "1", held=True)]
        )
    }
    lines = claims_table(results, ["memory", "latency"], before).splitlines()
    assert lines[2:] == [
        "| bytes | 9 | 8 | yes |",
        "| lost | 0 | 0 | yes |",
        "| RSS | 1 | 1 | yes |",
    ]
    assert "bytes" not in claims_table(results, ["latency"], before)


def test_plots_are_valid_and_name_every_value() -> None:
    for plot in (bars("rates & ratios", {"a<b": 10, "c": 5}), stack("parts", {"a<b": 1, "c": 3})):
        texts = [text.strip() for text in ElementTree.fromstring(plot).itertext()]  # noqa: S314
        assert {"a<b", "c"} <= set(texts)


def test_the_summary_states_what_was_measured() -> None:
    facts = {"rates": {"receiver": 5123.4}, "ratios": {"a peer": 3.14, "ceiling": 0.76}}
    text = " ".join(summary(facts).split())
    assert "5,123 logouts a second: 3.1 times a peer, 0.76 times the ceiling" in text
    assert max(map(len, summary(facts).splitlines())) <= 100


def test_figures() -> None:
    assert percentile([5, 1, 4, 2, 3], 0.5) == 3
    assert percentile(list(range(1, 101)), 0.99) == 99
    assert spread([2.0, 1.0, 4.0]) == "2.00 (1.00-4.00)"
    assert table(("", "n"), [("a", 1)]) == "|  | n |\n| --- | ---: |\n| a | 1 |"
