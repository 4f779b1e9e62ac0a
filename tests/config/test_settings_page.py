"""docs/settings.md describes every setting, and agrees with the model."""

import pytest

from app.config.account import AccountApp
from app.config.admin_oidc import AdminOidcSettings, RequiredClaim
from app.config.base import Table
from app.config.canary import CanarySettings
from app.config.issuers import ClientOptions, ClientSettings, IssuerOptions, IssuerSettings
from app.config.model import Settings
from app.config.session_api import SessionsSettings
from docs.generate.settings_page import field_docstrings, page
from tests.support.receiver import ROOT

TABLES = (
    AccountApp, AdminOidcSettings, CanarySettings, ClientOptions, ClientSettings, IssuerOptions,
    IssuerSettings, RequiredClaim, SessionsSettings, Settings,
)  # fmt: skip


def test_the_page_is_up_to_date() -> None:
    """`make settings` writes it."""
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == page()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_setting_has_a_description(table: type[Table]) -> None:
    own = {name for name in table.model_fields if name in table.__annotations__}
    assert own == field_docstrings(table).keys()


@pytest.mark.parametrize(
    "cells",
    [
        "`leeway` | duration, up to `10m` | `1m` | `BCL_LEEWAY`",
        "`listen` | `host:port` | `127.0.0.1:8000` | `BCL_LISTEN`",
        "`embedded_port` | number, `1` to `65535` | `6390` | `BCL_EMBEDDED_PORT`",
        "`journal_max_bytes` | size, `64KiB` or more | `256MiB` | `BCL_JOURNAL_MAX_BYTES`",
        "`client_id` | text | **required** | `BCL_CLIENT_ID`",
        "`issuers` | tables | none | ",
    ],
)
def test_form_limits_default_and_variable_come_from_the_model(cells: str) -> None:
    assert any(line.startswith(f"| {cells} | ") for line in page().splitlines())
