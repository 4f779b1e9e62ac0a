"""Encrypted tokens and clients with their own algorithms, over HTTP with a real Redis."""

import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis

from app.errors import SENTENCES, Reason
from backchannel_logout import AppKeys
from tests.support.providers.encryption import write_jwk
from tests.support.providers.provider import Provider, private_key
from tests.support.receiver import Receiver, config, wait_for
from tests.support.revocations import new_app
from tests.support.servers.redis_server import RedisServer
from tests.tokens.cases_encrypted import (
    EC_KEY,
    EC_KID,
    EC_NEXT,
    ENCRYPTED,
    NEXT_KID,
    OCT,
    OTHER_SECRET,
    REQUIRED_KEY,
    REQUIRED_KID,
    RSA_KEY,
    RSA_KID,
    SECRET,
    SIGNED,
    Case,
    Scene,
    encrypt,
    mac,
)  # fmt: skip


@dataclass(frozen=True)
class EncryptingReceiver:
    receiver: Receiver
    scene: Scene
    redis: redis.Redis
    keys: AppKeys

    def events(self) -> int:
        length: int = self.redis.xlen(self.keys.events)
        return length


@pytest.fixture(scope="module")
def setup(
    tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer
) -> Iterator[EncryptingReceiver]:
    files, app = tmp_path_factory.mktemp("keys"), new_app()
    two = write_jwk(files, "ec.json", (EC_KEY, {"kid": EC_KID}), (EC_NEXT, {"kid": NEXT_KID}))
    one = write_jwk(files, "rsa.json", (RSA_KEY, {"kid": RSA_KID}))
    required = write_jwk(files, "required.json", (REQUIRED_KEY, {"kid": REQUIRED_KID}))
    (files / "secret").write_text(OTHER_SECRET + "\n")
    clients = {
        "shop-web": "",
        "mail-web": "",
        "es-web": ', algorithms = ["ES256"]',
        "hs-web": f', algorithms = ["HS256"], client_secret = "{SECRET}"',
        "hs-file": f', algorithms = ["HS256"], client_secret_file = "{files}/secret"',
    }
    tables = [f'{{client_id = "{c}", app = "{app}"{more}}}' for c, more in clients.items()]
    with Provider() as provider, Provider() as demanding, Provider() as plain:
        provider.keys = {"e1": private_key("ES256"), "k1": provider.keys["k1"]}
        provider.extra_jwks = [
            {"kty": "oct", "kid": "oct", "k": urlsafe_b64encode(OCT).decode().rstrip("=")}
        ]
        settings = config(
            shared_redis.url,
            f'issuer = "{provider.issuer}"\ndecryption_keys = ["{one}", "{two}"]',
            f'issuer = "{demanding.issuer}"\ndecryption_keys = ["{required}"]\n'
            'encryption = "required"',
            f'issuer = "{plain.issuer}"',
            clients=f"[{', '.join(tables)}]",
        )
        receiver = Receiver(tmp_path_factory.mktemp("receiver"), settings).start()
        look = redis.Redis.from_url(shared_redis.url, decode_responses=True)
        yield EncryptingReceiver(receiver, Scene(provider, demanding, plain), look, AppKeys(app))
        look.close()
        receiver.stop()


@pytest.mark.parametrize("case", [*ENCRYPTED, *SIGNED], ids=lambda case: case.id)
def test_the_answer_to_each_token(case: Case, setup: EncryptingReceiver) -> None:
    """200 and one event, or 400 with the reason and nothing in Redis."""
    before = setup.events()
    answer = setup.receiver.post(case.token(setup.scene))
    if case.expected is None:
        assert (answer.status_code, answer.content) == (200, b""), answer.text
        # On a busy machine it may be in the journal for a moment.
        wait_for(lambda: setup.events() == before + 1, "the logout is in Redis", setup.receiver)
    else:
        assert answer.status_code == 400
        assert answer.json() == {
            "error": "invalid_request",
            "error_description": f"{case.expected}: {SENTENCES[case.expected]}",
        }
        assert setup.events() == before


def test_an_encrypted_logout_ends_the_session_in_the_inner_token(setup: EncryptingReceiver) -> None:
    provider = setup.scene.provider
    iat = int(time.time()) - 5
    token = provider.token(sid="encrypted", iat=iat)
    assert setup.receiver.post(encrypt(token, EC_KEY, kid=EC_KID)).status_code == 200
    marker = setup.keys.sid(provider.issuer, "encrypted")
    wait_for(lambda: setup.redis.exists(marker), "the logout is in Redis", setup.receiver)
    assert setup.redis.get(marker) == str(iat)
    before = setup.events()
    assert setup.receiver.post(encrypt(token, RSA_KEY, kid=RSA_KID)).status_code == 200
    assert setup.events() == before, "encrypted again it is the same token"


def test_a_secret_needs_no_key_of_the_provider(setup: EncryptingReceiver) -> None:
    """The kid of such a token causes no fetch."""
    fetches = setup.scene.provider.key_fetches
    token = mac(SECRET.encode(), header={"kid": "unknown"})(setup.scene)
    assert setup.receiver.post(token).status_code == 200
    assert setup.scene.provider.key_fetches == fetches


def test_neither_secrets_nor_tokens_reach_the_log(setup: EncryptingReceiver) -> None:
    token = encrypt(setup.scene.provider.token(nonce="n"), EC_KEY)
    assert setup.receiver.post(token).status_code == 400
    wait_for(lambda: "nonce" in setup.receiver.log, "the refusal is in the log")
    for secret in (SECRET, OTHER_SECRET, token.split(".")[3], "PRIVATE"):
        assert secret not in setup.receiver.log


def test_every_reason_about_encryption_and_secrets_has_a_case() -> None:
    new = {
        Reason.ENCRYPTION_HEADER, Reason.ENCRYPTION_ALG, Reason.ENCRYPTION_REQUIRED,
        Reason.DECRYPTION, Reason.AUD_NOT_ALONE,
    }  # fmt: skip
    assert new <= {case.expected for case in (*ENCRYPTED, *SIGNED)}


@pytest.mark.slow
def test_a_token_is_parked_decrypted(setup: EncryptingReceiver) -> None:
    """It is written when the provider publishes the key."""
    provider = setup.scene.provider
    late = private_key("RS256", 7)
    token = provider.token(sid="late", key=late, header={"kid": "late"})
    provider.mode = "500"
    assert setup.receiver.post(encrypt(token, EC_KEY, kid=EC_KID)).status_code == 503
    provider.keys, provider.mode = {"late": late, **provider.keys}, "ok"
    marker = setup.keys.sid(provider.issuer, "late")
    wait_for(lambda: setup.redis.exists(marker), "the parked token is applied", setup.receiver)
