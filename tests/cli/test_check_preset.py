"""What `check` says of an issuer with a preset."""

from pathlib import Path

from app.cli.check_preset import duration, preset_rows
from app.cli.table import Row, Verdict
from app.settings import load
from tests.support.provider import Provider
from tests.support.receiver import config
from tests.support.redis_server import RedisServer

from .conftest import Run


def rows(directory: Path, *lines: str, age: str = "30d") -> dict[str, Row]:
    path = directory / "settings.toml"
    clients = f'[{{client_id = "shop-web", app = "shop", max_session_age = "{age}"}}]'
    issuer = "\n".join(['issuer = "https://op.example"', *lines])
    path.write_text(config("embedded", issuer, clients=clients))
    (settings,) = load(path, {}).issuers
    return {row.what: row for row in preset_rows(settings)}


def test_an_issuer_without_a_preset_has_no_rows(tmp_path: Path) -> None:
    assert rows(tmp_path) == {}


def test_what_is_set_what_to_switch_on_and_what_never_comes(tmp_path: Path) -> None:
    found = rows(tmp_path, 'preset = "keycloak"', age="10h")
    assert found["keycloak"].verdict is Verdict.RIGHT
    assert found["keycloak"].detail.endswith("; algorithms RS256")
    assert "Front channel logout off" in found["keycloak switch on"].detail
    assert "Sign out all active sessions" in found["keycloak never sends"].detail
    assert found["keycloak sessions"].verdict is Verdict.RIGHT
    assert "*" not in "".join(row.detail for row in found.values()), "a terminal shows no Markdown"


def test_an_app_whose_sessions_outlive_the_providers_is_warned_of(tmp_path: Path) -> None:
    row = rows(tmp_path, 'preset = "keycloak"', age="36001s")["keycloak sessions"]
    assert row.verdict is Verdict.WARNING
    assert row.detail.startswith("end after 10h by default")
    assert "shop" in row.detail


def test_algorithms_of_the_operators_own_are_told_beside_the_presets(tmp_path: Path) -> None:
    row = rows(tmp_path, 'preset = "better-auth"', 'algorithms = ["RS256"]')["better-auth"]
    assert row.verdict is Verdict.NOTE
    assert row.detail.endswith("algorithms RS256 by your settings, EdDSA by it")


def test_zitadel_without_aliases_is_warned_of(tmp_path: Path) -> None:
    assert rows(tmp_path, 'preset = "zitadel"')["zitadel aliases"].verdict is Verdict.WARNING
    other = 'aliases = ["https://other.example"]'
    assert "zitadel aliases" not in rows(tmp_path, 'preset = "zitadel"', other)


def test_tokens_that_are_repeated_for_longer_than_they_are_taken_are_warned_of(
    tmp_path: Path,
) -> None:
    short = ("max_token_age = 1", "leeway = 1")
    assert rows(tmp_path, 'preset = "hydra"', *short)["hydra retries"].verdict is Verdict.WARNING
    assert "hydra retries" not in rows(tmp_path, 'preset = "hydra"')


def test_who_sends_nothing_is_warned_of(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, 'preset = "kratos"').values()
    assert row.verdict is Verdict.WARNING
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
