"""One receiver per file, for tests that leave it unchanged."""

import secrets
from collections.abc import Iterator

import pytest

from tests.account.account_fixture import AccountClient, account_client


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountClient]:
    with account_client(tmp_path_factory.mktemp("account")) as running:
        yield running


@pytest.fixture
def alice(account: AccountClient) -> Iterator[AccountClient]:
    """A user without sessions of an earlier test."""
    account.user = f"auth0|{secrets.token_hex(6)}"
    account.tenant.sessions.clear()
    account.tenant.faults.clear()
    # A receiver may still follow the ends of the test before: its questions must not take a fault.
    account.tenant.faults_for = {account.user}
    yield account
    account.tenant.faults.clear()
