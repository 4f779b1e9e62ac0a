"""What `check` says of an issuer with a preset."""

import json
from pathlib import Path

import pytest

from app.cli.check.preset import preset_rows
from app.cli.table import CheckVerdict, Row
from app.config.load import load
from app.formatting import duration
from app.tokens.jwks import KeySet, read_key_set
from tests.cli.conftest import Run
from tests.support.providers.encryption import EC, decryption_key, write_pem
from tests.support.providers.provider import Provider, private_key, public_jwk
from tests.support.receiver import config
from tests.support.servers.redis_server import RedisServer


def rows(
    directory: Path, *lines: str, age: str = "30d", clients: str = "", keys: KeySet | None = None
) -> dict[str, Row]:
    path = directory / "settings.toml"
    clients = clients or f'[{{client_id = "shop-web", app = "shop", max_session_age = "{age}"}}]'
    issuer = "\n".join(['issuer = "https://op.example"', *lines])
    path.write_text(config("embedded", issuer, clients=clients))
    (settings,) = load(path, {}).issuers
    return {row.what: row for row in preset_rows(settings, keys)}


def test_an_issuer_without_a_preset_has_no_rows(tmp_path: Path) -> None:
    assert rows(tmp_path) == {}


def test_what_is_set_what_to_switch_on_and_what_never_comes(tmp_path: Path) -> None:
    found = rows(tmp_path, 'preset = "keycloak"', age="10h")
    assert found["keycloak"].verdict is CheckVerdict.RIGHT
    assert found["keycloak"].detail.endswith("; algorithms RS256")
    assert "Front channel logout off" in found["keycloak switch on"].detail
    assert "Sign out all active sessions" in found["keycloak never sends"].detail
    assert found["keycloak sessions"].verdict is CheckVerdict.RIGHT
    assert "*" not in "".join(row.detail for row in found.values()), "a terminal shows no Markdown"


def test_an_app_whose_sessions_outlive_the_providers_is_warned_of(tmp_path: Path) -> None:
    row = rows(tmp_path, 'preset = "keycloak"', age="36001s")["keycloak sessions"]
    assert row.verdict is CheckVerdict.WARNING
    assert row.detail.startswith("end after 10h by default")
    assert "shop" in row.detail


def test_algorithms_of_the_operators_own_are_told_beside_the_presets(tmp_path: Path) -> None:
    row = rows(tmp_path, 'preset = "better-auth"', 'algorithms = ["RS256"]')["better-auth"]
    assert row.verdict is CheckVerdict.NOTE
    assert row.detail.endswith("algorithms RS256 by your settings, EdDSA by it")


def test_keycloak_with_algorithms_at_a_client_is_warned_of(tmp_path: Path) -> None:
    """Before 26.7 it signs with those of another client, which a client's own refuse."""
    clients = '[{client_id = "es", app = "shop", algorithms = ["ES256"]}, {client_id = "rs"}]'
    row = rows(tmp_path, 'preset = "keycloak"', clients=clients)["keycloak client algorithms"]
    assert row.verdict is CheckVerdict.WARNING
    assert row.detail.startswith("es: algorithms at a client refuse")
    both = 'algorithms = ["RS256", "ES256"]'
    assert "keycloak client algorithms" not in rows(tmp_path, 'preset = "keycloak"', both)
    assert "better-auth client algorithms" not in rows(
        tmp_path, 'preset = "better-auth"', clients=clients
    )


def test_keys_of_keycloak_for_an_algorithm_that_is_not_taken_are_warned_of(tmp_path: Path) -> None:
    keys = read_key_set(
        json.dumps(
            {
                "keys": [
                    public_jwk(private_key("RS256"), "rs", alg="RS256"),
                    public_jwk(private_key("ES256"), "es", alg="ES256"),
                ]
            }
        ).encode()
    )
    row = rows(tmp_path, 'preset = "keycloak"', keys=keys)["keycloak other algorithms"]
    assert row.verdict is CheckVerdict.WARNING
    assert row.detail.startswith("it has keys for ES256 too")
    both = 'algorithms = ["RS256", "ES256"]'
    for lines in (('preset = "keycloak"', both), ('preset = "hydra"',)):
        found = rows(tmp_path, *lines, keys=keys)
        assert not any(what.endswith("other algorithms") for what in found)


def test_encryption_that_keycloak_never_does_is_warned_of(tmp_path: Path) -> None:
    key = write_pem(tmp_path, "key.pem", decryption_key(EC))
    lines = (f'decryption_keys = ["{key}"]', 'encryption = "required"')
    row = rows(tmp_path, 'preset = "keycloak"', *lines)["keycloak encryption"]
    assert row.verdict is CheckVerdict.WARNING
    assert "oidc-provider encryption" not in rows(tmp_path, 'preset = "oidc-provider"', *lines)
    assert "keycloak encryption" not in rows(tmp_path, 'preset = "keycloak"', lines[0])


def test_the_sign_out_of_a_user_that_keycloak_tells_by_halves_is_said(tmp_path: Path) -> None:
    assert (
        "before 26.7, Sign out of a user"
        in rows(tmp_path, 'preset = "keycloak"')["keycloak never sends"].detail
    )


@pytest.mark.parametrize(
    ("preset", "warned"),
    [("dex", True), ("rauthy", True), ("hydra", True), ("keycloak", False), ("cas", False)],
)
def test_strict_where_no_token_could_pass_is_warned_of(
    preset: str, warned: bool, tmp_path: Path
) -> None:
    lines = (f'preset = "{preset}"', "strict = true")
    assert (f"{preset} strict" in rows(tmp_path, *lines)) == warned
    assert f"{preset} strict" not in rows(tmp_path, lines[0])


def test_an_app_that_no_logout_of_casdoor_would_find_is_warned_of(tmp_path: Path) -> None:
    row = rows(tmp_path, 'preset = "casdoor"')["casdoor both_claims"]
    assert row.verdict is CheckVerdict.WARNING
    assert row.detail.endswith('in shop; set both_claims = "user" at the client')
    clients = '[{client_id = "shop-web", app = "shop", both_claims = "user"}]'
    assert "casdoor both_claims" not in rows(tmp_path, 'preset = "casdoor"', clients=clients)


def test_zitadel_without_aliases_is_warned_of(tmp_path: Path) -> None:
    assert rows(tmp_path, 'preset = "zitadel"')["zitadel aliases"].verdict is CheckVerdict.WARNING
    other = 'aliases = ["https://other.example"]'
    assert "zitadel aliases" not in rows(tmp_path, 'preset = "zitadel"', other)


def test_tokens_that_are_repeated_for_longer_than_they_are_taken_are_warned_of(
    tmp_path: Path,
) -> None:
    short = ("max_token_age = 1", "leeway = 1")
    assert (
        rows(tmp_path, 'preset = "hydra"', *short)["hydra retries"].verdict is CheckVerdict.WARNING
    )
    assert "hydra retries" not in rows(tmp_path, 'preset = "hydra"')


def test_who_sends_nothing_is_warned_of(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, 'preset = "kratos"').values()
    assert row.verdict is CheckVerdict.WARNING
    assert row.detail.startswith("sends no logout tokens. ")


def test_the_command_prints_them_and_none_of_them_is_a_fault(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    settings = config(shared_redis.url, f'issuer = "{provider.issuer}"\npreset = "keycloak"')
    ended = run("check", settings)
    assert ended.status == 0
    assert "note   keycloak never sends" in ended.out
    assert "warn   keycloak sessions" in ended.out


def test_a_duration_is_told_in_the_largest_unit_that_is_exact() -> None:
    told = [duration(length) for length in (5, 90, 600, 36000, 86400, 90000)]
    assert told == ["5s", "90s", "10m", "10h", "1d", "25h"]
