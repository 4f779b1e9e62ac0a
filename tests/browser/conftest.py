"""One browser for all tests of a file, and contexts of it: each is a person's own.

The receiver, the provider's API and the app are the same for all files.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.account.account_fixture import AccountClient, account_client
from tests.account.app_process import running_apps
from tests.console.browser import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="package")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountClient]:
    with account_client(tmp_path_factory.mktemp("account")) as running:
        yield running


@pytest.fixture(scope="package")
def app(account: AccountClient) -> Iterator[str]:
    """The address of an app that shows its users their sessions."""
    with running_apps(account, "starlette") as running:
        yield running["starlette"]
