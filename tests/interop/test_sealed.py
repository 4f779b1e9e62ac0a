"""npm's oidc-provider with clients whose tokens are encrypted, or signed with their secret."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import redis

from backchannel_logout import AppKeys
from tests.interop.oidc_provider import HERE, missing
from tests.support.providers.encryption import decryption_key, write_jwk
from tests.support.receiver import Receiver, config, wait_for
from tests.support.revocations import new_app
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.interop

SECRET = "thirty-two bytes of a secret, at the least"


class Sender:
    """The provider's process; its line protocol is at the head of sealed.mjs."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", str(HERE / "sealed.mjs")],  # noqa: S607  from the PATH, like npm
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.issuer: str = self._next()["issuer"]

    def log_out(self, receiver: Receiver, client_id: str, sid: str, **metadata: Any) -> str | None:
        """Send a logout token for this client; returns the provider's delivery report."""
        client = {
            "client_id": client_id,
            "client_secret": SECRET,
            "redirect_uris": ["https://app.example/callback"],
            "backchannel_logout_uri": f"{receiver.url}/backchannel-logout",
            "backchannel_logout_session_required": True,
        }
        assert self._process.stdin is not None
        line = {"register": client | metadata, "sub": "alice", "sid": sid}
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        fault: str | None = self._next()["error"]
        return fault

    def _next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)


@pytest.fixture(scope="module")
def sender() -> Iterator[Sender]:
    if reason := missing():
        pytest.skip(reason)
    with Sender() as running:
        yield running


class EncryptionSetup:
    """A receiver that requires encryption if ``encryption`` says so."""

    def __init__(
        self, sender: Sender, server: RedisServer, directory: Path, encryption: str
    ) -> None:
        app = new_app()
        self.sender, self.keys = sender, AppKeys(app)
        self.private = {alg: decryption_key(alg) for alg in ("RSA-OAEP-256", "ECDH-ES")}
        files = write_jwk(
            directory, "keys.json", *((key, {"kid": alg}) for alg, key in self.private.items())
        )
        clients = (
            f'[{{client_id = "sealed", app = "{app}"}}, {{client_id = "legacy", app = "{app}",'
            f' algorithms = ["HS256"], client_secret = "{SECRET}"}}]'
        )
        issuer = f'issuer = "{sender.issuer}"\ndecryption_keys = ["{files}"]\n{encryption}'
        self.receiver = Receiver(directory, config(server.url, issuer, clients=clients)).start()
        self.redis = redis.Redis.from_url(server.url, decode_responses=True)

    def jwks(self, alg: str) -> dict[str, Any]:
        """The output of `app keys` for one algorithm."""
        public = self.private[alg].as_dict(private=False)
        return {"keys": [dict(public) | {"kid": alg, "use": "enc", "alg": alg}]}

    def ended(self, sid: str) -> bool:
        return bool(self.redis.exists(self.keys.sid(self.sender.issuer, sid)))

    def close(self) -> None:
        self.redis.close()
        self.receiver.stop()


@pytest.fixture
def setup(sender: Sender, shared_redis: RedisServer, tmp_path: Path) -> Iterator[EncryptionSetup]:
    made = EncryptionSetup(sender, shared_redis, tmp_path, 'encryption = "optional"')
    yield made
    made.close()


@pytest.mark.parametrize("enc", ["A128CBC-HS256", "A256GCM"])
@pytest.mark.parametrize("alg", ["RSA-OAEP-256", "ECDH-ES"])
def test_an_encrypted_logout_ends_only_that_session(
    setup: EncryptionSetup, alg: str, enc: str
) -> None:
    sealed = {
        "id_token_encrypted_response_alg": alg,
        "id_token_encrypted_response_enc": enc,
        "jwks": setup.jwks(alg),
    }
    assert setup.sender.log_out(setup.receiver, "sealed", "desk", **sealed) is None
    wait_for(lambda: setup.ended("desk"), "the logout is in Redis", setup.receiver)
    assert not setup.ended("phone")


def test_a_logout_signed_with_the_client_secret_ends_only_that_session(
    setup: EncryptionSetup,
) -> None:
    signed = {"id_token_signed_response_alg": "HS256"}
    assert setup.sender.log_out(setup.receiver, "legacy", "desk", **signed) is None
    wait_for(lambda: setup.ended("desk"), "the logout is in Redis", setup.receiver)
    assert not setup.ended("phone")
    other = {"client_secret": "another secret, and long enough too"}
    fault = setup.sender.log_out(setup.receiver, "legacy", "phone", **signed, **other)
    assert fault is not None
    assert "400" in fault
    assert not setup.ended("phone")


def test_a_plain_logout_is_refused_if_encryption_is_required(
    sender: Sender, shared_redis: RedisServer, tmp_path: Path
) -> None:
    setup = EncryptionSetup(sender, shared_redis, tmp_path, 'encryption = "required"')
    fault = sender.log_out(setup.receiver, "sealed", "desk")
    assert fault is not None
    assert "400" in fault
    assert not setup.ended("desk")
    assert setup.receiver.wait_for_log_event("logout", reason="encryption_required")
    setup.close()
