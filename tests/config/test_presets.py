"""What a preset sets, and that the documentation agrees with it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from app.config.issuers import IssuerOptions
from app.config.load import SettingsFault, load
from app.config.presets import presets
from docs.generate.provider_page import page
from tests.support.receiver import ROOT

ENVIRONMENT = {
    "BCL_REDIS_URL": "embedded",
    "BCL_CLIENT_ID": "shop",
    "BCL_ISSUER": "https://op.example",
}
SENDERS = sorted(name for name, preset in presets().items() if preset.sends_tokens)
OTHERS = sorted(set(presets()) - set(SENDERS))


def test_the_page_is_up_to_date() -> None:
    """`make providers` writes it."""
    assert (ROOT / "docs" / "providers.md").read_text("utf-8") == page()


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_sets_algorithms_and_nothing_else(name: str) -> None:
    """It never switches off a check or extends a deadline."""
    plain = load(None, ENVIRONMENT).issuers[0]
    preset = load(None, ENVIRONMENT | {"BCL_PRESET": name}).issuers[0]
    names = IssuerOptions.model_fields
    different = {name for name in names if getattr(plain, name) != getattr(preset, name)}
    assert different <= {"algorithms"}
    assert preset.algorithms == presets()[name].algorithms
    assert preset.clients == plain.clients


def test_the_settings_take_precedence_over_the_preset(tmp_path: Path) -> None:
    """On the issuer and at the top level."""
    top = ENVIRONMENT | {"BCL_PRESET": "better-auth", "BCL_ALGORITHMS": "ES256"}
    assert load(None, top).issuers[0].algorithms == ("ES256",)
    path = tmp_path / "settings.toml"
    path.write_text(
        'redis_url = "embedded"\n[[issuers]]\nissuer = "https://op.example"\n'
        'preset = "better-auth"\nalgorithms = ["PS256"]\nclients = [{client_id = "shop"}]\n'
    )
    assert load(path, {}).issuers[0].algorithms == ("PS256",)


def test_an_unknown_preset_is_a_fault_that_lists_the_known_ones() -> None:
    with pytest.raises(SettingsFault) as fault:
        load(None, ENVIRONMENT | {"BCL_PRESET": "keyclock"})
    (line,) = fault.value.faults
    assert line.startswith("BCL_PRESET: must be one of auth0, ")
    assert "keycloak" in line
    assert "keyclock" not in line


@pytest.mark.parametrize("name", SENDERS)
def test_a_sender_is_described(name: str) -> None:
    preset = presets()[name]
    for member in ("name", "release", "issuer", "typ", "kid", "aud", "sub", "sid", "success"):
        assert getattr(preset, member), member
    assert preset.console_steps or preset.command, "how to enable it"
    assert not preset.alternative


@pytest.mark.parametrize("name", OTHERS)
def test_a_provider_that_sends_nothing_has_an_alternative(name: str) -> None:
    assert presets()[name].alternative


def test_the_default_max_token_age_covers_every_repeated_token() -> None:
    age = IssuerOptions().max_token_age
    assert all(preset.same_token_for < age for preset in presets().values())


@pytest.mark.slow
def test_the_table_is_in_the_wheel(tmp_path: Path) -> None:
    """The image is built from the wheel."""
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
