"""One receiver per file, for tests that leave it unchanged."""

import secrets
from collections.abc import Iterator

import pytest

from tests.account.account_fixture import AccountClient, account_client


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountClient]:
    with account_client(tmp_path_factory.mktemp("account")) as running:
        yield running


@pytest.fixture
def alice(scene: AccountClient) -> Iterator[AccountClient]:
    """A scene without sessions of an earlier test."""
    scene.user = f"auth0|{secrets.token_hex(6)}"
    scene.tenant.sessions.clear()
    scene.tenant.faults.clear()
    yield scene
    scene.tenant.faults.clear()
