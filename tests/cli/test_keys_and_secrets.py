"""What the commands show about decryption keys and clients' secrets, and what they do not."""

import hmac
import json
from pathlib import Path

from app.errors import Reason
from tests.cli.conftest import Ended, Run
from tests.cli.test_explain import REDIS_URL, RULES, outcomes
from tests.support.providers.encryption import EC, RSA, decryption_key, encrypt, write_jwk
from tests.support.providers.provider import Provider, encode_parts, private_key
from tests.support.receiver import config
from tests.support.servers.redis_server import RedisServer
from tests.tokens.cases_encrypted import SECRET

CLIENT = 'client_id = "shop-web", app = "shop"'
HS256 = f'[{{{CLIENT}, algorithms = ["HS256"], client_secret = "{SECRET}"}}]'


def keys_file(directory: Path) -> Path:
    return write_jwk(
        directory, "keys.json",
        (decryption_key(RSA), {"kid": "r"}), (decryption_key(EC), {"kid": "e"}),
    )  # fmt: skip


def explain(run: Run, directory: Path, provider: Provider, token: str, lines: str = "") -> Ended:
    line = f'decryption_keys = ["{keys_file(directory)}"]\n{lines}'
    return run("explain", config(REDIS_URL, f'issuer = "{provider.issuer}"\n{line}'), token)


def test_the_public_halves_are_printed_and_nothing_else(run: Run, tmp_path: Path) -> None:
    line = f'issuer = "https://op.example"\ndecryption_keys = ["{keys_file(tmp_path)}"]'
    ended = run("keys", config("embedded", line))
    assert (ended.status, ended.err) == (0, "")
    rsa, ec = json.loads(ended.out)["keys"]
    assert rsa.keys() == {"kty", "n", "e", "use", "alg", "kid"}
    assert ec.keys() == {"kty", "crv", "x", "y", "use", "alg", "kid"}
    assert (rsa["alg"], rsa["use"], rsa["kid"]) == ("RSA-OAEP-256", "enc", "r")
    assert (ec["alg"], ec["use"], ec["kid"]) == ("ECDH-ES", "enc", "e")


def test_without_keys_there_is_nothing_to_print(run: Run) -> None:
    ended = run("keys", config("embedded", 'issuer = "https://op.example"'))
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "there are no decryption_keys in the settings\n"


def test_an_encrypted_token_is_explained_with_its_inner_token(
    run: Run, tmp_path: Path, provider: Provider
) -> None:
    token = encrypt(provider.token(), decryption_key(EC), kid="e")
    ended = explain(run, tmp_path, provider, token)
    assert ended.status == 0, ended.out
    assert list(outcomes(ended)) == ["encrypted", *RULES]
    assert 'alg "ECDH-ES", enc "A256GCM", kid "e"' in ended.out


def test_a_token_that_no_key_decrypts_is_explained_in_part(
    run: Run, tmp_path: Path, provider: Provider
) -> None:
    ended = explain(run, tmp_path, provider, encrypt(provider.token(), decryption_key(EC, 9)))
    assert ended.status == 1
    assert outcomes(ended) == {"encrypted": "FAIL"}
    assert 'configured: "r (RSA-OAEP-256)", "e (ECDH-ES)"' in ended.out
    assert f"refused (400): {Reason.DECRYPTION}" in ended.out


def test_a_missing_encryption_is_reported(run: Run, tmp_path: Path, provider: Provider) -> None:
    ended = explain(run, tmp_path, provider, provider.token(), 'encryption = "required"')
    assert ended.status == 1
    assert outcomes(ended)["encrypted"] == "FAIL"
    assert f"refused (400): {Reason.ENCRYPTION_REQUIRED}" in ended.out


def test_garbage_in_five_segments_is_explained(
    run: Run, tmp_path: Path, provider: Provider
) -> None:
    for token, reason in (("....", Reason.ENCRYPTION_HEADER), ("e30....", Reason.ENCRYPTION_ALG)):
        ended = explain(run, tmp_path, provider, token)
        assert f"refused (400): {reason}" in ended.out


def test_a_token_under_a_secret_is_explained_and_the_secret_not_shown(
    run: Run, provider: Provider
) -> None:
    def signed(secret: str) -> str:
        return encode_parts(
            {"alg": "HS256"},
            provider.claims(),
            lambda data: hmac.digest(secret.encode(), data, "sha256"),
        )

    text = config(REDIS_URL, f'issuer = "{provider.issuer}"', clients=HS256)
    good, bad = run("explain", text, signed(SECRET)), run("explain", text, signed("x" * 32))
    assert good.status == 0, good.out
    assert f"refused (400): {Reason.SIGNATURE}" in bad.out
    assert SECRET not in good.out + good.err + bad.out + bad.err


def test_a_clients_own_algorithms_are_shown_beside_the_issuers(
    run: Run, provider: Provider
) -> None:
    text = config(REDIS_URL, f'issuer = "{provider.issuer}"', clients=HS256)
    ended = run("explain", text, provider.token())
    assert f"refused (400): {Reason.ALG}" in ended.out
    assert 'shop-web: algorithms "HS256"' in ended.out


def test_check_looks_for_keys_for_a_clients_own_algorithms(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    clients = '[{client_id = "shop-web", app = "shop", algorithms = ["ES256"]}]'
    provider.keys = {"e": private_key("ES256")}
    text = config(shared_redis.url, f'issuer = "{provider.issuer}"', clients=clients)
    ended = run("check", text)
    assert ended.status == 0, ended.out
    assert "discovery: 1 key for ES256" in ended.out


def test_check_fetches_no_keys_if_all_clients_have_secrets(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    provider.mode = "500"
    text = config(shared_redis.url, f'issuer = "{provider.issuer}"', clients=HS256)
    ended = run("check", text)
    assert ended.status == 0, ended.out
    assert "HS256 with each client's secret, no keys" in ended.out
