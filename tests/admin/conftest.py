"""One receiver per file, for tests that leave it unchanged."""

from collections.abc import Iterator

import pytest

from tests.admin.api_fixture import AdminClient, admin_client


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminClient]:
    with admin_client(tmp_path_factory.mktemp("api")) as running:
        yield running
