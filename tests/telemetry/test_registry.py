"""Counters and their exposition, without a service."""

import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from app.config.load import load
from app.config.model import Settings
from app.errors import Outage, Reason
from app.telemetry.metrics.counters import Counters
from app.telemetry.metrics.definitions import ALL, ANSWERS, READY, TOKENS
from app.telemetry.metrics.exposition import exposed
from app.telemetry.metrics.registry import Registry

ROOT = Path(__file__).parents[2]
ISSUER = "https://op.example"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "settings.toml"
    path.write_text(
        'redis_url = "redis://127.0.0.1"\n'
        f'[[issuers]]\nissuer = "{ISSUER}"\n'
        'clients = [{client_id = "a", app = "shop"}, {client_id = "b", app = "wiki"}]\n'
    )
    return load(path, {})


def count(
    counters: Counters, issuer: str, outcome: str, reason: str = "-", client: str = ""
) -> None:
    clients = (client,) if client else ()
    counters.token(issuer, clients, outcome, reason, seconds=0.01, validated_after=None)


def samples(registry: Registry) -> dict[tuple[str, ...], float]:
    """Each sample of the text by its name and its label values, in the order of the label names."""
    text = exposed(registry, [], "")[0].decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in read_text(text)
        for sample in family.samples
    }


def test_every_reason_can_be_counted_with_and_without_an_issuer(settings: Settings) -> None:
    """Otherwise it would be lost silently, because a logout never fails for a counter."""
    counters = Counters(settings)
    for reason in Reason:
        count(counters, ISSUER, "refused", reason)
        count(counters, "-", "refused", reason)
    for outage in Outage:
        count(counters, ISSUER, "unavailable", outage)
        count(counters, ISSUER, "unavailable", outage, client="a")
    for outcome in ("accepted", "repeated", "journaled"):
        count(counters, ISSUER, outcome, client="b")
    total = sum(
        value for name, value in samples(counters.registry).items() if name[0] == TOKENS.name
    )
    assert total == 2 * len(Reason) + 2 * len(Outage) + 3


def test_names_outside_the_settings_make_no_series(settings: Settings) -> None:
    counters = Counters(settings)
    before = set(samples(counters.registry))
    for n in range(100):
        count(counters, f"https://{n}.example", "refused", "signature")
        count(counters, ISSUER, "accepted", client=f"client-{n}")
    assert set(samples(counters.registry)) == before


def test_a_histogram_counts_up_to_and_including_each_bound(settings: Settings) -> None:
    registry = Registry(settings)
    for value in (0.0, 0.001, 0.0011, 5.0):
        registry.histogram(ANSWERS).observe(value)
    by_le = samples(registry)
    assert [by_le[f"{ANSWERS.name}_bucket", le] for le in ("0.0005", "0.001", "0.0025", "1.8")] == [
        1, 2, 3, 3,
    ]  # fmt: skip
    assert by_le[f"{ANSWERS.name}_bucket", "+Inf"] == by_le[f"{ANSWERS.name}_count",] == 4
    assert by_le[f"{ANSWERS.name}_sum",] == pytest.approx(5.0021)


def test_both_formats_have_the_same_samples(settings: Settings) -> None:
    counters = Counters(settings)
    registry = counters.registry
    count(counters, ISSUER, "accepted", client="a")
    gauges = [(READY, (), 1.0)]
    plain, plain_type = exposed(registry, gauges, "text/plain")
    om, om_type = exposed(registry, gauges, "application/openmetrics-text; version=1.0.0")
    assert plain_type.startswith("text/plain; version=")
    assert om_type.startswith("application/openmetrics-text; version=1.0.0")
    assert om.endswith(b"# EOF\n")

    def read(families: object) -> set[tuple[str, str, float]]:
        return {
            (sample.name, str(sorted(sample.labels.items())), sample.value)
            for family in families  # type: ignore[attr-defined]
            for sample in family.samples
        }

    assert read(read_text(plain.decode())) == read(read_openmetrics(om.decode()))


def test_each_metric_name_follows_the_prometheus_conventions() -> None:
    for name, metric in ALL.items():
        assert re.fullmatch(r"bcl_[a-z_]+[a-z]", name)
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(metric.buckets)
        if metric.kind == "histogram":
            assert name.endswith("_seconds")
        assert not metric.help.endswith(".")


def test_series_are_bounded_by_the_settings(settings: Settings) -> None:
    assert sum(len(list(metric.series(settings))) for metric in ALL.values()) < 250


def test_the_documentation_lists_every_metric() -> None:
    rows = []
    for metric in ALL.values():
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    text = (ROOT / "docs/metrics.md").read_text()
    assert re.findall(r"^\| `bcl_.*\|$", text, re.MULTILINE) == rows
