"""The sentinel overlay's script and files, with real Valkeys, Sentinels and a receiver."""

import pytest

from tests.k8s.sentinel_members import ADDRESSES
from tests.support.deployment.manifests import rendered
from tests.support.deployment.private_network import run_alone

pytestmark = pytest.mark.slow


def test_it_survives_the_loss_of_its_primary_and_of_all_members(tmp_path):
    rendered("sentinel")
    said = run_alone(tmp_path, ADDRESSES, "tests.k8s.sentinel_scenario", str(tmp_path))
    assert "none lost" in said
