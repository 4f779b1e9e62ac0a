"""One receiver for all tests of a file that leave it as it was."""

from collections.abc import Iterator

import pytest

from tests.admin.api_fixture import ApiScene, api_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiScene]:
    with api_scene(tmp_path_factory.mktemp("api")) as running:
        yield running
