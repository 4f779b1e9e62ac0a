"""One receiver and one browser for all tests of a file."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.admin.api_fixture import TOKEN, ApiScene, api_scene
from tests.console.browser import chromium, open_page, sign_in


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiScene]:
    with api_scene(tmp_path_factory.mktemp("console"), 'admin_hosts = ["ops.example"]') as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(scene: ApiScene, browser: Browser) -> Any:
    with open_page(browser, scene.receiver.admin_url) as opened:
        sign_in(opened, TOKEN)
        yield opened
