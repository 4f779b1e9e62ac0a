"""The rows of `check` for an issuer with a preset."""

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


def test_a_preset_shows_its_settings_what_to_switch_on_and_what_is_never_sent(
    tmp_path: Path,
) -> None:
    table = rows(tmp_path, 'preset = "keycloak"', age="10h")
    assert table["keycloak"].verdict is CheckVerdict.RIGHT
    assert table["keycloak"].detail.endswith("; algorithms RS256")
    assert "Front channel logout off" in table["keycloak switch on"].detail
    assert "Sign out all active sessions" in table["keycloak never sends"].detail
    assert table["keycloak sessions"].verdict is CheckVerdict.RIGHT
    assert "*" not in "".join(row.detail for row in table.values()), "a terminal shows no Markdown"


def test_an_app_whose_sessions_outlive_the_providers_is_warned_of(tmp_path: Path) -> None:
    row = rows(tmp_path, 'preset = "keycloak"', age="36001s")["keycloak sessions"]
    assert row.verdict is CheckVerdict.WARNING
    assert row.detail.startswith("end after 10h by default")
    assert "shop" in row.detail


def test_the_operators_algorithms_are_shown_beside_the_presets(tmp_path: Path) -> None:
    row = rows(tmp_path, 'preset = "better-auth"', 'algorithms = ["RS256"]')["better-auth"]
    assert row.verdict is CheckVerdict.NOTE
    assert row.detail.endswith("algorithms RS256 by your settings, EdDSA by it")


def test_keycloak_with_algorithms_at_a_client_is_warned_of(tmp_path: Path) -> None:
    """Before 26.7 it signs with the algorithms of another client, which this client's list
    refuses.
    """
    clients = '[{client_id = "es", app = "shop", algorithms = ["ES256"]}, {client_id = "rs"}]'
    row = rows(tmp_path, 'preset = "keycloak"', clients=clients)["keycloak client algorithms"]
    assert row.verdict is CheckVerdict.WARNING
    assert row.detail.startswith("es: algorithms at a client refuse")
    both = 'algorithms = ["RS256", "ES256"]'
    assert "keycloak client algorithms" not in rows(tmp_path, 'preset = "keycloak"', both)
    assert "better-auth client algorithms" not in rows(
        tmp_path, 'preset = "better-auth"', clients=clients
    )


def test_keycloak_keys_for_an_algorithm_that_is_not_accepted_are_warned_of(tmp_path: Path) -> None:
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
        table = rows(tmp_path, *lines, keys=keys)
        assert not any(what.endswith("other algorithms") for what in table)


def test_encryption_which_keycloak_does_not_support_is_warned_of(tmp_path: Path) -> None:
    key = write_pem(tmp_path, "key.pem", decryption_key(EC))
    lines = (f'decryption_keys = ["{key}"]', 'encryption = "required"')
    row = rows(tmp_path, 'preset = "keycloak"', *lines)["keycloak encryption"]
    assert row.verdict is CheckVerdict.WARNING
    assert "oidc-provider encryption" not in rows(tmp_path, 'preset = "oidc-provider"', *lines)
    assert "keycloak encryption" not in rows(tmp_path, 'preset = "keycloak"', lines[0])


def test_a_user_sign_out_that_keycloak_reports_only_in_part_is_shown(tmp_path: Path) -> None:
    assert (
        "before 26.7, Sign out of a user"
        in rows(tmp_path, 'preset = "keycloak"')["keycloak never sends"].detail
    )


@pytest.mark.parametrize(
    ("preset", "warned"),
    [("dex", True), ("rauthy", True), ("hydra", True), ("keycloak", False), ("cas", False)],
)
def test_strict_rules_that_no_token_could_pass_are_warned_of(
    preset: str, warned: bool, tmp_path: Path
) -> None:
    lines = (f'preset = "{preset}"', "strict = true")
    assert (f"{preset} strict" in rows(tmp_path, *lines)) == warned
    assert f"{preset} strict" not in rows(tmp_path, lines[0])


def test_an_app_that_casdoor_logouts_would_not_reach_is_warned_of(tmp_path: Path) -> None:
    row = rows(tmp_path, 'preset = "casdoor"')["casdoor both_claims"]
    assert row.verdict is CheckVerdict.WARNING
    assert row.detail.endswith('in shop; set both_claims = "user" at the client')
    clients = '[{client_id = "shop-web", app = "shop", both_claims = "user"}]'
    assert "casdoor both_claims" not in rows(tmp_path, 'preset = "casdoor"', clients=clients)


def test_zitadel_without_aliases_is_warned_of(tmp_path: Path) -> None:
    assert rows(tmp_path, 'preset = "zitadel"')["zitadel aliases"].verdict is CheckVerdict.WARNING
    other = 'aliases = ["https://other.example"]'
    assert "zitadel aliases" not in rows(tmp_path, 'preset = "zitadel"', other)


def test_tokens_repeated_for_longer_than_they_are_accepted_are_warned_of(
    tmp_path: Path,
) -> None:
    short = ("max_token_age = 1", "leeway = 1")
    assert (
        rows(tmp_path, 'preset = "hydra"', *short)["hydra retries"].verdict is CheckVerdict.WARNING
    )
    assert "hydra retries" not in rows(tmp_path, 'preset = "hydra"')


def test_a_provider_that_sends_nothing_is_warned_of(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, 'preset = "kratos"').values()
    assert row.verdict is CheckVerdict.WARNING
    assert row.detail.startswith("sends no logout tokens. ")


def test_check_prints_these_rows_and_none_is_a_fault(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    settings = config(shared_redis.url, f'issuer = "{provider.issuer}"\npreset = "keycloak"')
    ended = run("check", settings)
    assert ended.status == 0
    assert "note   keycloak never sends" in ended.out
    assert "warn   keycloak sessions" in ended.out


def test_a_duration_is_shown_in_the_largest_exact_unit() -> None:
    texts = [duration(length) for length in (5, 90, 600, 36000, 86400, 90000)]
    assert texts == ["5s", "90s", "10m", "10h", "1d", "25h"]
