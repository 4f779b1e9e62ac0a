"""The canary: its measurements, and that no one else can use its issuer."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.canary.issuer import ISSUER, Signer, with_canary
from app.config.canary import CanarySettings
from app.config.load import SettingsFault, load
from app.config.model import Settings
from app.telemetry.canary_outcome import CanaryOutcome
from backchannel_logout import AppKeys
from tests.support.providers.provider import Provider
from tests.support.receiver import ROOT, Receiver, config, wait_for
from tests.support.scrape import Scrape
from tests.support.servers.redis_server import RedisServer

COMMANDS = (ROOT / "docs/commands.md").read_text()
CANARY = "\n[canary]\ninterval = 1\nwithin = 3\n"

# For tests in which no try may fail, on a machine that stands still for seconds.
WITHIN = 60
PATIENT_CANARY = f"\n[canary]\ninterval = 1\nwithin = {WITHIN}\n"


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "settings.toml"
    path.write_text(config("redis://127.0.0.1:1/0", 'issuer = "https://op.example"') + text)
    return load(path, {})


def test_there_is_no_canary_by_default(tmp_path: Path) -> None:
    plain = settings(tmp_path, "")
    assert with_canary(plain) == (plain, None)
    assert settings(tmp_path, "[canary]\n").canary == CanarySettings()


def test_its_issuer_is_added_to_those_of_the_settings(tmp_path: Path) -> None:
    extended, signer = with_canary(settings(tmp_path, CANARY))
    assert signer is not None
    assert [issuer.issuer for issuer in extended.issuers] == ["https://op.example", ISSUER]
    assert {client.app for client in extended.issuers[1].clients} == {"canary"}


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ('[canary]\napp = "shop"\n', "issuers[0].clients[0].app: is the canary's"),
        ('[canary]\napp = "Not a name"\n', "canary.app: a relying app's name matches"),
        ("[canary]\ncolour = 1\n", "canary.colour: unknown setting"),
        ("[canary]\ninterval = 0\n", "canary.interval: "),
    ],
)
def test_a_wrong_table_is_a_fault(table: str, fault: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsFault) as raised:
        settings(tmp_path, table)
    assert any(line.startswith(fault) for line in raised.value.faults)


# -- in a service --------------------------------------------------------------------------


def canary_of(receiver: Receiver) -> dict[str, Any]:
    state: dict[str, Any] = receiver.readyz().json()["canary"]
    return state


@pytest.fixture
def service(provider: Provider, redis_server: RedisServer, tmp_path: Path) -> Iterator[Receiver]:
    text = config(redis_server.url, f'issuer = "{provider.issuer}"')
    receiver = Receiver(tmp_path / "receiver", text + PATIENT_CANARY).start()
    yield receiver
    receiver.stop(signal.SIGKILL)


@pytest.mark.slow
def test_its_sessions_end_and_every_stage_is_measured(
    service: Receiver, redis_server: RedisServer, provider: Provider
) -> None:
    wait_for(lambda: canary_of(service)["tries"] >= 2, "it has tried twice", service)
    state = canary_of(service)
    assert (state["app"], state["failures"]) == ("canary", 0), service.log
    last = state["last"]
    assert last["outcome"] == CanaryOutcome.OK
    assert 0 < last["to_answer"] <= last["to_marker"] <= last["to_receipt"] < WITHIN
    with redis_server.client() as client:
        assert client.xlen(AppKeys("canary").events) >= 2
        assert client.keys("bcl:v1:{shop}:events") == []
    counted = Scrape(service)
    assert counted.total("bcl_canary_tries_total", outcome="ok") >= 2
    assert counted.total("bcl_canary_tries_total") == counted.total(
        "bcl_canary_tries_total", outcome="ok"
    )
    assert counted.total("bcl_canary_duration_seconds_count", stage="receipt") >= 2
    assert counted.total("bcl_canary_failures_in_a_row") == 0
    assert "no receiver has written" not in service.log
    # The service still takes logouts and stops in order.
    assert service.post(provider.token()).status_code == 200
    assert service.stop() == 0


@pytest.mark.slow
def test_an_empty_redis_that_starts_later_is_not_reported_as_a_wrong_address(
    provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.stop()
    text = config(redis_server.url, f'issuer = "{provider.issuer}"')
    service = Receiver(tmp_path / "receiver", text + CANARY).start(ready=False)
    try:
        wait_for(lambda: canary_of(service)["tries"] >= 1, "it has tried", service)
        redis_server.start()
        wait_for(
            lambda: canary_of(service)["last"]["outcome"] == CanaryOutcome.OK,
            "all is well",
            service,
        )
        assert "no receiver has written" not in service.log
    finally:
        service.stop()


@pytest.mark.slow
def test_a_token_of_its_issuer_with_another_key_is_refused(service: Receiver) -> None:
    answer = service.post(Signer().token("s1", 1_795_283_041))
    assert (answer.status_code, answer.json()["error_description"].split(":")[0]) == (
        400, "key_unknown",
    )  # fmt: skip


@pytest.mark.slow
def test_it_fails_while_redis_is_away_and_recovers(
    provider: Provider, redis_server: RedisServer, tmp_path: Path
) -> None:
    text = config(redis_server.url, f'issuer = "{provider.issuer}"')
    receiver = Receiver(tmp_path / "receiver", text + CANARY).start()
    try:
        wait_for(lambda: canary_of(receiver)["tries"], "it has tried", receiver)
        redis_server.stop()
        # The try during which Redis stopped may fail in another way.
        wait_for(
            lambda: canary_of(receiver)["last"]["outcome"] == CanaryOutcome.NO_MARKER,
            "it fails",
            receiver,
        )
        assert canary_of(receiver)["failures"]
        assert Scrape(receiver).total("bcl_canary_tries_total", outcome="no_marker") >= 1
        assert Scrape(receiver).total("bcl_canary_failures_in_a_row") >= 1
        assert receiver.readyz().status_code == 200
        redis_server.start()
        wait_for(
            lambda: canary_of(receiver)["last"]["outcome"] == CanaryOutcome.OK,
            "well again",
            receiver,
        )
        assert Scrape(receiver).total("bcl_canary_failures_in_a_row") == 0
    finally:
        receiver.stop(signal.SIGKILL)


@pytest.mark.slow
def test_without_a_canary_its_issuer_is_unknown(receiver: Receiver) -> None:
    assert "canary" not in receiver.readyz().json()
    answer = receiver.post(Signer().token("s1", 1_795_283_041))
    assert answer.json()["error_description"].startswith("iss_unknown")


@pytest.mark.slow
def test_it_works_with_the_documented_redis_rights(provider: Provider, tmp_path: Path) -> None:
    rules = re.search(
        r"^(user receiver on .*)$", (ROOT / "docs/contract.md").read_text(), re.MULTILINE
    )
    more = re.search(r"`(\(~bcl:v1:{canary}:app:[^`]*\))` with `([^`]*)`", COMMANDS)
    assert rules is not None
    assert more is not None
    acl = tmp_path / "users.acl"
    rule = rules[1].replace("{wiki}", "{canary}") + f" {more[2]} {more[1]}"
    acl.write_text(f"user default on nopass ~* &* +@all\n{rule}\n")
    server = RedisServer(tmp_path / "redis", "--aclfile", str(acl)).start()
    url = server.url.replace("//", "//receiver:RECEIVER-PASSWORD@")
    receiver = Receiver(
        tmp_path / "receiver", config(url, f'issuer = "{provider.issuer}"') + PATIENT_CANARY
    )
    try:
        receiver.start()
        wait_for(lambda: canary_of(receiver)["tries"], "it has tried", receiver)
        assert canary_of(receiver)["last"]["outcome"] == CanaryOutcome.OK, receiver.log
        assert "NOPERM" not in receiver.log
        assert "cannot be reported" not in receiver.log
    finally:
        receiver.stop(signal.SIGKILL)
        server.stop()
