"""Starts each provider once for all tests; each test has its own receiver, apps and browsers."""

import os
from collections.abc import Iterator

import pytest

from tests.interop import keycloak as keycloak_server
from tests.interop import keycloak_dist
from tests.interop import oidc_provider as oidc_provider_process
from tests.interop.keycloak import Keycloak
from tests.interop.oidc_provider import OidcProvider


@pytest.fixture(scope="session")
def oidc_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    if reason := oidc_provider_process.missing():
        pytest.skip(reason)
    with OidcProvider(tmp_path_factory.mktemp("oidc-provider")) as running:
        yield running


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    """The one server of all test processes of this run."""
    if reason := keycloak_dist.missing():
        pytest.skip(reason)
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with keycloak_server.running(shared / "keycloak") as running:
        yield running
