"""compose.yaml is hardened, on loopback only, and its parts work together."""

import pytest

from tests.k8s.compose_scenario import SERVICES, published
from tests.support.deployment.private_network import run_alone


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_read_only_and_has_no_rights(name):
    told = SERVICES[name]
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]


def test_everything_is_published_on_loopback_only():
    assert published()
    assert all(port.startswith("127.0.0.1:") for port in published())


@pytest.mark.slow
def test_exactly_the_right_session_ends_in_containers(tmp_path):
    names = dict.fromkeys(SERVICES, "127.0.0.1")
    said = run_alone(tmp_path, names, "tests.k8s.compose_scenario", str(tmp_path))
    assert "exactly the right session ended" in said
