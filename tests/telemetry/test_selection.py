"""The number of series is bounded in a large fleet, and no counter ever goes backwards."""

import time

import pytest

from app.config.load import load
from app.config.model import Settings
from app.telemetry.metrics.app_reading import AppReading
from app.telemetry.metrics.counters import Counters
from app.telemetry.metrics.definitions import APP_RECEIPTS, TEARDOWN, TO_MARKER, TOKENS
from app.telemetry.metrics.selection import OTHER
from app.telemetry.metrics.worst import worst_apps
from backchannel_logout.contract.readers import ReaderKind
from backchannel_logout.contract.receipts import Outcome, Receipt
from tests.telemetry.test_registry import samples

ISSUERS, APPS = 200, 10_000


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    path = tmp_path_factory.mktemp("fleet") / "settings.toml"
    lines = ['redis_url = "redis://127.0.0.1"', 'metrics_apps = ["app-9999"]']
    for n in range(ISSUERS):
        clients = ", ".join(
            f'{{client_id = "client-{app}", app = "app-{app}"}}' for app in range(n, APPS, ISSUERS)
        )
        lines += ["[[issuers]]", f'issuer = "https://{n}.example"', f"clients = [{clients}]"]
    path.write_text("\n".join(lines))
    return load(path, {})


def count(counters: Counters, app: int) -> None:
    issuer = f"https://{app % ISSUERS}.example"
    counters.token(
        issuer, (f"client-{app}",), "accepted", None, seconds=0.01, validated_after=0.005
    )
    counters.registry.histogram(TO_MARKER, issuer).observe(1.0)
    receipt = Receipt(event="1-1", listener="", reader="r", seconds=0.5, outcome=Outcome.DONE)
    counters.receipt(f"app-{app}", receipt)


def test_a_busy_fleet_has_fewer_than_20_000_series(fleet: Settings) -> None:
    counters = Counters(fleet)
    idle = len(samples(counters.registry))
    for app in range(APPS):
        count(counters, app)
    busy = samples(counters.registry)
    assert idle < 10_000
    assert len(busy) < 20_000 - 14 * fleet.metrics_max_apps, "there is room for the gauges"
    tokens = {key: value for key, value in busy.items() if key[0] == TOKENS.name}
    assert sum(tokens.values()) == APPS, "nothing is left out of a sum"
    receipts = {key: value for key, value in busy.items() if key[0] == APP_RECEIPTS.name}
    assert sum(receipts.values()) == APPS
    assert receipts[APP_RECEIPTS.name, "app-9999", "done"] == 1, "it is requested"
    assert busy[f"{TEARDOWN.name}_sum", OTHER] == pytest.approx((APPS - 100) * 0.5)


def test_counters_never_go_backwards_while_apps_take_the_places(fleet: Settings) -> None:
    counters = Counters(fleet)
    last: dict[tuple[str, ...], float] = {}
    for start in range(0, 200, 40):
        for app in (*range(start, start + 40), 3, 150):
            count(counters, app)
        now = samples(counters.registry)
        assert all(now[name] >= value for name, value in last.items())
        last = now


def test_one_app_is_shown_although_the_others_have_the_places(fleet: Settings) -> None:
    counters = Counters(fleet)
    for app in range(200):
        count(counters, app)
    families = list(counters.registry.families({"app-150"}))
    labels = {tuple(sample.labels.values()) for family in families for sample in family.samples}
    assert ("https://150.example", "client-150", "accepted", "-") in labels
    assert ("app-150", "done") in labels
    assert not any("app-3" in own or OTHER in own for own in labels)


def test_issuers_have_zeros_that_alerts_need(fleet: Settings) -> None:
    idle = samples(Counters(fleet).registry)
    for outcome, reason in (("refused", "signature"), ("unavailable", "keys_unavailable")):
        assert idle[TOKENS.name, "-", "https://7.example", outcome, reason] == 0


def test_the_worst_apps_and_the_requested_ones_are_shown() -> None:
    now = time.time()
    readings = {f"app-{n}": AppReading(at=now, events=n) for n in range(50)}
    readings["app-7"].dead_letters = 1
    readings["app-8"].beyond = "too large"
    readings["app-9"].last_report = now - 1000
    readings["app-10"].last_report = now - 1000
    readings["app-10"].readers = {ReaderKind.ASKS: 1}  # it asks Redis: no process needs to report
    readings["app-11"].lag = 20
    shown = worst_apps(readings, {"app-12"}, {"app-3", "unknown"}, 6, now)
    assert shown[0] == "app-3"
    assert set(shown) == {"app-3", "app-7", "app-8", "app-9", "app-11", "app-12"}
    assert worst_apps(readings, (), (), 50, now) == list(readings)
