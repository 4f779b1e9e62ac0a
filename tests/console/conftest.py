"""One receiver and one browser per file, and a clock."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.admin.api_fixture import TOKEN, AdminClient, admin_client
from tests.console.browser import chromium, open_page, sign_in
from tests.support.clock import Clock


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminClient]:
    with admin_client(
        tmp_path_factory.mktemp("console"), 'admin_hosts = ["ops.example"]'
    ) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(admin: AdminClient, browser: Browser) -> Any:
    with open_page(browser, admin.receiver.admin_url) as opened:
        sign_in(opened, TOKEN)
        yield opened


@pytest.fixture
def clock() -> Clock:
    return Clock()
