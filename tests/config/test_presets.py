"""The table of providers: what a preset sets, and that the documentation says the same."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app.config.issuers import IssuerOptions
from app.config.load import SettingsFault, load
from app.config.pages.provider_page import page
from app.config.presets import presets
from tests.support.receiver import ROOT

ENVIRONMENT = {
    "BCL_REDIS_URL": "embedded",
    "BCL_CLIENT_ID": "shop",
    "BCL_ISSUER": "https://op.example",
}
SENDERS = sorted(name for name, one in presets().items() if one.sends_tokens)
SILENT = sorted(set(presets()) - set(SENDERS))


def test_the_page_says_what_the_table_says() -> None:
    """`make providers` writes it anew."""
    assert (ROOT / "docs" / "providers.md").read_text("utf-8") == page()


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_sets_algorithms_and_nothing_else(name: str) -> None:
    """No check is switched off, and no deadline made longer."""
    plain = load(None, ENVIRONMENT).issuers[0]
    preset = load(None, ENVIRONMENT | {"BCL_PRESET": name}).issuers[0]
    differs = {
        one for one in IssuerOptions.model_fields if getattr(plain, one) != getattr(preset, one)
    }
    assert differs <= {"algorithms"}
    assert preset.algorithms == presets()[name].algorithms
    assert preset.clients == plain.clients


def test_what_the_operator_says_stands_above_the_preset(tmp_path: Path) -> None:
    """At the issuer, and at the top level."""
    top = ENVIRONMENT | {"BCL_PRESET": "better-auth", "BCL_ALGORITHMS": "ES256"}
    assert load(None, top).issuers[0].algorithms == ("ES256",)
    path = tmp_path / "settings.toml"
    path.write_text(
        'redis_url = "embedded"\n[[issuers]]\nissuer = "https://op.example"\n'
        'preset = "better-auth"\nalgorithms = ["PS256"]\nclients = [{client_id = "shop"}]\n'
    )
    assert load(path, {}).issuers[0].algorithms == ("PS256",)


def test_an_unknown_preset_is_a_fault_that_names_the_known_ones() -> None:
    with pytest.raises(SettingsFault) as fault:
        load(None, ENVIRONMENT | {"BCL_PRESET": "keyclock"})
    (line,) = fault.value.faults
    assert line.startswith("BCL_PRESET: must be one of auth0, ")
    assert "keycloak" in line
    assert "keyclock" not in line


@pytest.mark.parametrize("name", SENDERS)
def test_a_sender_is_described_as_far_as_it_is_known(name: str) -> None:
    one = presets()[name]
    for member in ("name", "release", "issuer", "typ", "kid", "aud", "sub", "sid", "success"):
        assert getattr(one, member), member
    assert one.click or one.call, "how to switch it on"
    assert not one.instead


@pytest.mark.parametrize("name", SILENT)
def test_who_sends_nothing_has_a_word_on_what_to_do(name: str) -> None:
    assert presets()[name].instead


def test_a_token_that_is_sent_again_is_still_young_enough() -> None:
    """The default `max_token_age` suits every provider that repeats a token."""
    age = IssuerOptions().max_token_age
    assert all(one.same_token_for < age for one in presets().values())


@pytest.mark.slow
def test_the_table_is_in_the_wheel(tmp_path: Path) -> None:
    """The image is built from it."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert (
            archive.read("app/config/providers.toml")
            == (ROOT / "app/config/providers.toml").read_bytes()
        )
