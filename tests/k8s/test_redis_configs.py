"""The Valkeys of the manifests, started with their own files and used by a real receiver."""

import base64
import re
from pathlib import Path

import pytest

from tests.support.deployment.manifests import ROOT, find
from tests.support.receiver import Receiver, config
from tests.support.servers.redis_server import RedisServer

CONTRACT = (ROOT / "docs/contract.md").read_text()
USERS = {
    "dev": ROOT / "k8s/overlays/dev/users.acl",
    "sentinel": ROOT / "k8s/overlays/sentinel/secrets/users.acl",
}


def rules(text: str) -> dict[str, list[str]]:
    """Each user's rules, without the password."""
    lines = [line.split() for line in text.splitlines() if line.startswith("user ")]
    return {
        words[1]: [word for word in words[2:] if not re.match(r"[>#]", word)] for words in lines
    }


@pytest.mark.parametrize("overlay", USERS)
def test_the_acl_users_are_those_of_the_contract_for_the_one_app(overlay):
    found = re.search(r"```acl\n(.*?)```", CONTRACT, re.DOTALL)
    assert found is not None
    contract = rules(found[1])
    del contract["wiki-guard"]
    ours = rules(USERS[overlay].read_text())
    assert {name: ours[name] for name in contract} == contract
    # The other users are for Valkeys and Sentinels only.
    assert ours.keys() - contract.keys() <= {"replica", "sentinel"}


def test_the_sentinel_overlay_contains_no_password():
    for path in (ROOT / "k8s/overlays/sentinel/secrets").iterdir():
        for secret in re.findall(r">(\S+)|(?:pass|masterauth)\S* (?:logouts )?(\S+)$",
                                 path.read_text(), re.MULTILINE):  # fmt: skip
            assert re.fullmatch(r"@[A-Z]+@", "".join(secret)), path


@pytest.fixture
def valkey(tmp_path: Path):
    """The dev overlay's Valkey, with its configuration and users as rendered."""
    (configured,) = find("dev", "ConfigMap", "valkey-config")
    directory = tmp_path / "valkey"
    directory.mkdir()
    users = directory / "users.acl"
    users.write_text(USERS["dev"].read_text())
    text = configured["data"]["valkey.conf"]
    text = text.replace("dir /data", f"dir {directory}")
    text = text.replace("/etc/valkey/users/users.acl", str(users))
    (directory / "valkey.conf").write_text(text)
    server = ConfiguredServer(directory)
    yield server.start()
    server.stop()


class ConfiguredServer(RedisServer):
    """A server with the configuration of ``valkey.conf``, except for its address."""

    def _command(self) -> list[str]:
        own = super()._command()
        return [own[0], str(self.directory / "valkey.conf"), "--port", str(self.port),
                "--bind", "127.0.0.1"]  # fmt: skip

    @property
    def url(self) -> str:
        return f"redis://admin:dev-admin@127.0.0.1:{self.port}/0"


def test_devs_valkey_persists_and_evicts_nothing(valkey):
    with valkey.client() as client:
        got = client.config_get("appendonly", "maxmemory-policy", "appendfsync")
        assert got == {
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
            "appendfsync": "everysec",
        }


@pytest.mark.slow
def test_a_receiver_works_with_devs_valkey_as_its_acl_user(valkey, tmp_path, provider):
    (secret,) = find("dev", "Secret", "receiver-redis")
    url = base64.b64decode(secret["data"]["url"]).decode()
    receiver = Receiver(
        tmp_path / "receiver",
        config(url.replace("valkey:6379", f"127.0.0.1:{valkey.port}"),
               f'issuer = "{provider.issuer}"'),
    )  # fmt: skip
    try:
        receiver.start()
        assert receiver.post(provider.token()).status_code == 200
        with valkey.client() as client:
            assert client.keys("bcl:v1:{shop}:sid:*")
        assert "NOPERM" not in receiver.log
    finally:
        receiver.stop()
