"""Loads settings from text, or returns their faults."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from app.config.load import SettingsFault, load
from app.config.model import Settings

Load = Callable[..., Settings]
Faults = Callable[..., list[str]]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Loads a settings file with this text, and an environment."""

    def load_text(text: str, environ: Mapping[str, str] | None = None) -> Settings:
        path = tmp_path / "settings.toml"
        path.write_text(text, "utf-8")
        return load(path, environ or {})

    return load_text


@pytest.fixture
def faults(loaded: Load) -> Faults:
    """Returns the faults of a settings file with this text, and an environment."""

    def faults_of(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(SettingsFault) as caught:
            loaded(text, environ)
        assert str(caught.value) == "\n".join(caught.value.faults)
        return caught.value.faults

    return faults_of
