"""The settings of the admin API: valid values, and faults without the secret."""

import pytest

from app.config.load import SettingsFault, load
from app.config.model import Settings

BASE = {
    "BCL_REDIS_URL": "redis://127.0.0.1:6379/0",
    "BCL_ISSUER": "https://op.example",
    "BCL_CLIENT_ID": "shop",
}


def loaded(**env: str) -> Settings:
    return load(None, BASE | {f"BCL_{name.upper()}": value for name, value in env.items()})


def test_by_default_there_is_no_token_and_confirm_within_is_ten_seconds() -> None:
    settings = loaded()
    assert (settings.admin_token, settings.admin_hosts) == (None, ())
    assert settings.confirm_within == 10


def test_a_token_is_a_secret_and_hosts_are_a_list() -> None:
    settings = loaded(
        admin_token="8-chars!", admin_hosts="Ops.example, 10.0.0.1,[::1]", confirm_within="3s"
    )
    assert settings.admin_token is not None
    assert settings.admin_token.get_secret_value() == "8-chars!"
    assert "8-chars!" not in repr(settings)
    assert settings.admin_hosts == ("ops.example", "10.0.0.1", "::1")
    assert settings.confirm_within == 3


@pytest.mark.parametrize(
    "token", ["", "short", "with a blank in it", "umläute-im-wort", "x" * 1025]
)
def test_an_unusable_token_is_refused_and_not_quoted(token: str) -> None:
    with pytest.raises(SettingsFault) as caught:
        loaded(admin_token=token)
    (line,) = caught.value.faults
    assert line.startswith("BCL_ADMIN_TOKEN: ")
    assert not token or token not in line


@pytest.mark.parametrize("host", ["ops.example:9000", "http://ops.example", "*", "a b", "", "/"])
def test_a_host_is_a_name_or_an_address_without_a_port(host: str) -> None:
    with pytest.raises(SettingsFault) as caught:
        loaded(admin_hosts=host)
    assert "admin_hosts" in str(caught.value).lower()


def test_confirm_within_is_at_most_ten_minutes() -> None:
    assert loaded(confirm_within="10m").confirm_within == 600
    with pytest.raises(SettingsFault):
        loaded(confirm_within="11m")
