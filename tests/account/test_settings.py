"""Refused settings of the users' listener."""

from pathlib import Path

import pytest

from tests.support.receiver import run_app

pytestmark = pytest.mark.slow


def test_settings_that_do_nothing_or_open_too_much_are_faults(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("""
redis_url = "redis://127.0.0.1:1/0"
issuer = "https://op.example/"
client_id = "shop-web"
app = "shop"
account_audience = "shop-web"
account_apps = [{app = "wiki", token = "short"}, {app = "shop"}]
""")
    done = run_app("check", "--config", "x.toml", cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for line in (
        "account_audience: does nothing without account_listen",
        "account_audience: goes together with account_scope",
        "account_audience: is a client's id",
        "account_apps[0].app: is the app of no client",
        "account_apps[0].token: has 32",
        "account_apps[1].token: set either token or token_file",
    ):
        assert line in said
    assert "short" not in said
