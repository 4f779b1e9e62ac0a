"""Faults never contain a secret."""

import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.config.load import SettingsFault, load
from app.config.model import Settings
from tests.config.example_settings import SHORT, document
from tests.support.receiver import run_app

SECRET = "hunter2-is-my-password"

WITH_SECRET: dict[str, tuple[str, dict[str, str]]] = {
    "in an unknown scheme": ("", SHORT | {"BCL_REDIS_URL": f"http://:{SECRET}@h"}),
    "taken for a port": ("", SHORT | {"BCL_REDIS_URL": f"redis://h:{SECRET}"}),
    "with a slash": ("", SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET}/@h:1/0"}),
    "with a number sign": ("", SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET}#@h:1/0"}),
    "with a question mark": ("", SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET}?@h:1/0"}),
    "with a space": ("", SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET} @h:1/0"}),
    "in an option": ("", SHORT | {"BCL_REDIS_URL": f"redis://h?{SECRET}={SECRET}"}),
    "in an option's value": ("", SHORT | {"BCL_REDIS_URL": f"redis://h?protocol={SECRET}"}),
    "as the database": ("", SHORT | {"BCL_REDIS_URL": f"redis://h/{SECRET}"}),
    "together with another fault": (
        "", SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET}@h", "BCL_LISTEN": "x"},
    ),
    "in a list": (f'redis_url = ["redis://:{SECRET}@h"]', {}),
    "in a table": (f'redis_url = {{url = "redis://:{SECRET}@h"}}', {}),
    "under a wrong name": (document(top=f'redis_uri = "redis://:{SECRET}@h"'), {}),
    "in a wrong variable": (document(), {"BCL_REDIS_PASSWORD": SECRET}),
    "in an issuer": (document().replace("op.example", f"u:{SECRET}@op.example"), {}),
    "in a jwks_uri": (document(issuer=f'jwks_uri = "https://u:{SECRET}@op.example/k"'), {}),
    "in a number": (document(), {"BCL_EMBEDDED_PORT": SECRET}),
    "in a duration": (document(), {"BCL_LEEWAY": SECRET}),
    "in an address": (document(), {"BCL_LISTEN": f"{SECRET}:x"}),
    "in an algorithm": (document(), {"BCL_ALGORITHMS": SECRET}),
    "in a line that is not TOML": (f'redis_url = "redis://:{SECRET}@h" "', {}),
    "in an unterminated string": (f'redis_url = "redis://:{SECRET}@h\nlisten = 1', {}),
    "in a repeated name": (f'a."{SECRET} (at line 1, column 1)" = 1\n' * 2, {}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "environ"), WITH_SECRET.values(), ids=WITH_SECRET)
def test_no_fault_contains_a_secret(text: str, environ: dict[str, str], tmp_path: Path) -> None:
    """Nor does the exception, its causes, or its traceback."""
    path = tmp_path / "settings.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsFault) as caught:
        load(path, environ)
    lines = [*caught.value.faults, repr(caught.value), str(caught.value)]
    lines += traceback.format_exception(caught.value)
    assert not [line for line in lines if SECRET in line]


def test_no_text_of_the_settings_contains_a_password() -> None:
    settings = load(None, SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET}@h:1/0"})
    assert SECRET in settings.redis_url.get_secret_value()
    for text in (repr(settings), str(settings), f"{settings.model_dump()}"):
        assert SECRET not in text
    assert SECRET not in settings.model_dump_json()


def test_pydantics_own_message_quotes_no_value() -> None:
    """Even for code that builds `Settings` without `load` and prints the error."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"redis_url": f"http://:{SECRET}@h", "leeway": SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "case"),
    [("serve", "taken for a port"), ("check", "in a line that is not TOML")],
)
def test_no_command_prints_a_secret(command: str, case: str, tmp_path: Path) -> None:
    text, environ = WITH_SECRET[case]
    (tmp_path / "settings.toml").write_text(text)
    ended = run_app(command, "--config", "settings.toml", cwd=tmp_path, env=environ)
    assert ended.returncode == 1
    assert SECRET not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert ("BCL_REDIS_URL" if environ else "settings.toml") in ended.stdout + ended.stderr
