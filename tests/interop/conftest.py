"""The provider is started once; each test has a receiver, relying apps and browsers of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.oidc_provider import OidcProvider, missing
from tests.interop.stage import Stage
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session")
def oidc_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    if reason := missing():
        pytest.skip(reason)
    with OidcProvider(tmp_path_factory.mktemp("oidc-provider")) as running:
        yield running


@pytest.fixture
def stage(
    oidc_provider: OidcProvider, shared_redis: RedisServer, tmp_path: Path
) -> Iterator[Stage]:
    with Stage(oidc_provider, shared_redis, tmp_path) as parts:
        yield parts
