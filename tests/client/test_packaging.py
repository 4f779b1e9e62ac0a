"""The client package as apps install it: built, next to an app with its own `app/`."""

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import httpx
import pytest

from backchannel_logout import AppKeys
from tests.support.receiver import ROOT, clean_environment, wait_for
from tests.support.servers.redis_server import RedisServer, free_port

pytestmark = pytest.mark.slow

NEWER = ("python3.12", "python3.13", "python3.14", "python3.15")


def interpreters() -> list[str]:
    """This Python, and every newer one on this machine."""
    found = [sys.executable]
    for name in NEWER:
        path = shutil.which(name)
        works = path and subprocess.run(
            [path, "-c", "import venv"], capture_output=True, check=False
        )
        if path and works and works.returncode == 0:
            found.append(path)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)],
        cwd=ROOT / "clients/python", check=True, capture_output=True,
    )  # fmt: skip
    (built,) = target.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_alone_typed_and_needs_redis_alone(
    wheel: Path, tmp_path: Path
) -> None:
    """No module `app`: relying apps use that name."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"backchannel_logout"}
    assert "backchannel_logout/py.typed" in names
    (info,) = tmp_path.glob("*.dist-info")
    needed = [one for one in PathDistribution(info).requires or [] if "extra ==" not in one]
    assert [one.split(">")[0].split("<")[0] for one in needed] == ["redis"]


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).name)
def test_an_installed_example_runs_beside_an_app_package(
    python: str, wheel: Path, tmp_path: Path, redis_server: RedisServer
) -> None:
    """The Starlette example as `app/main.py`, in an environment without this repository."""
    subprocess.run([python, "-m", "venv", str(tmp_path / "venv")], check=True)
    own_python = tmp_path / "venv" / "bin" / "python"
    installed = subprocess.run(
        [
            str(own_python), "-m", "pip", "install", "-q", "--disable-pip-version-check",
            f"{wheel}[starlette]", "uvicorn", "authlib", "httpx2",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if installed.returncode and "No matching distribution" in installed.stderr:
        pytest.skip("registry out of reach: pip")
    assert installed.returncode == 0, installed.stderr
    package = tmp_path / "work" / "app"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "examples" / "relying_app.py", package / "main.py")
    with redis_server.client() as client:
        client.hset(AppKeys("shop").meta, mapping={"v": "1", "max_session_age": "3600"})
    port = free_port()
    environment = clean_environment() | {
        "ISSUER": "https://op.example",
        "CLIENT_ID": "shop-web",
        "CLIENT_SECRET": "unused",
        "REDIS_URL": redis_server.url,
        "APP": "shop",
        "SESSION_SECRET": "of this test",
        "PORT": str(port),
    }
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [str(own_python), "-m", "app.main"], cwd=package.parent, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for(lambda: answers(port, process), "the example answers")
        assert httpx.get(f"http://127.0.0.1:{port}/me").json() == {"error": "not_signed_in"}
    finally:
        process.terminate()
        process.communicate(timeout=20)


def answers(port: int, process: "subprocess.Popen[str]") -> bool:
    if process.poll() is not None:
        assert process.stderr is not None
        raise AssertionError(process.stderr.read())
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
