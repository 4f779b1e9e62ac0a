"""Each alert fires when it should, stays quiet otherwise, and links to its chapter."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.telemetry.metrics.definitions import ALL
from tests.k8s.alert_cases import CASES, Series, of
from tests.support.deployment.manifests import ROOT
from tests.support.deployment.promtool import promtool

FOLDER = ROOT / "k8s/overlays/monitoring"
RULES: dict[str, Any] = yaml.safe_load((FOLDER / "rules.yaml").read_text())["spec"]
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
RUNBOOK = (ROOT / "docs/runbook.md").read_text()

SUFFIX = re.compile(r"_(bucket|sum|count)$")


@pytest.fixture(scope="session")
def rules_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules as a file for Prometheus."""
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(RULES))
    return path


def test_each_alert_has_its_cases() -> None:
    assert CASES.keys() == ALERTS.keys()
    assert all(case.quiet for case in CASES.values())


def deployed(world: Series, cluster: str, namespace: str) -> Series:
    """The same series of one deployment."""
    own = f'cluster="{cluster}",namespace="{namespace}"'
    found = {}
    for series, values in world.items():
        name, _, labels = series.removesuffix("}").partition("{")
        found[f"{name}{{{','.join(filter(None, (labels, own)))}}}"] = values
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_fires_for_its_series_and_not_for_similar_ones(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    alone = {"groups": [{"name": "one", "rules": [ALERTS[name]]}]}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(alone))

    def expects(world: Series, fires: bool) -> dict[str, Any]:
        firing = (
            f'count by (cluster, namespace) (ALERTS{{alertname="{name}", alertstate="firing"}})'
        )
        labels = '{cluster="eu", namespace="production"}'
        return {
            "interval": "1m",
            "input_series": [{"series": one, "values": two} for one, two in world.items()],
            "promql_expr_test": [
                {
                    "expr": firing,
                    "eval_time": case.at,
                    "exp_samples": [{"labels": labels, "value": 1}] if fires else [],
                }
            ],
        }

    fires = [deployed(world, "eu", "production") for world in of(case.fires)]
    quiet = [deployed(world, "eu", "production") for world in of(case.quiet)]
    # In one Prometheus with a deployment of another namespace, or of another cluster.
    neighbours = [
        world | deployed(of(case.quiet)[0], cluster, namespace)
        for world in fires
        for cluster, namespace in (("eu", "staging"), ("us", "production"))
    ]
    told = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": case.every,
        "tests": [expects(world, True) for world in fires + neighbours]
        + [expects(world, False) for world in quiet],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(told))
    done = promtool("test", "rules", tmp_path / "test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_prometheus_accepts_the_rules(rules_file: Path) -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", rules_file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_severity_and_a_chapter(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    chapter = re.search(rf"^### {name}$(.*?)(?=^##|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert chapter is not None
    for part in ("**Means.**", "**Confirm.**", "**Do.**"):
        assert part in chapter[1], part


def test_the_runbook_has_no_chapter_of_a_removed_alert() -> None:
    [alerts] = re.findall(r"^## Alerts$(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^### (\w+)$", alerts, re.MULTILINE) == list(ALERTS)


def queries() -> dict[str, str]:
    """Every query of the alerts and the dashboard."""
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    found = {name: rule["expr"] for name, rule in ALERTS.items()}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            found[f"{panel['title']}/{target['refId']}"] = target["expr"]
    return found


@pytest.mark.parametrize("expr", queries().values(), ids=queries())
def test_a_query_uses_existing_metrics_and_their_labels(expr: str) -> None:
    names = re.findall(r"\b(bcl_\w+)\b", expr)
    assert names or "up{" in expr
    scraped = {"cluster", "namespace", "instance", "pod", "job", "le"}
    if "kube_" in expr:
        scraped |= {"statefulset", "deployment"}
    labels = set()
    for name in names:
        metric = ALL.get(name) or ALL[SUFFIX.sub("", name)]
        if metric is not ALL.get(name):
            assert metric.kind == "histogram"
        labels |= set(metric.labels)
    by = re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)|\bignoring\((\w+)\)", expr)
    asked = {one.strip() for group in by for part in group for one in part.split(",") if one}
    asked |= set(re.findall(r"[{,]\s*(\w+)\s*(?:=~?|!~|!=)", expr))
    assert asked <= labels | scraped
