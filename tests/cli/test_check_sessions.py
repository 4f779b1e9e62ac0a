"""``check`` and session APIs: whether they respond, and whether markers live long enough."""

import pytest

from app.formatting import duration
from tests.cli.conftest import Ended, Run
from tests.sessions.provider_fixtures import Api, table_of
from tests.support.providers.auth0_api import Auth0Api
from tests.support.providers.keycloak_api import KeycloakApi
from tests.support.providers.kratos_api import KratosApi
from tests.support.providers.provider import Provider
from tests.support.servers.redis_server import RedisServer


def settings_of(
    redis_url: str, issuer: str, api: Api, *, max_session_age: str = "30d", **changes: str
) -> str:
    """One issuer with the session API ``api``."""
    table = "\n".join(f'{name} = "{value}"' for name, value in (table_of(api) | changes).items())
    return f"""
redis_url = "{redis_url}"
journal = "off"
[[issuers]]
issuer = "{issuer}"
[[issuers.clients]]
client_id = "shop-web"
app = "shop"
max_session_age = "{max_session_age}"
[issuers.sessions]
{table}
"""


def about_sessions(ended: Ended) -> list[tuple[str, str]]:
    """Verdict and detail of the rows about session APIs."""
    rows = [line.split(maxsplit=3) for line in ended.out.splitlines()]
    return [(row[0], row[3]) for row in rows if len(row) == 4 and row[1] == "sessions"]


@pytest.mark.slow
def test_auth0_is_right_if_it_responds_and_its_sessions_end_before_the_markers(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    with Auth0Api() as api:
        ended = run("check", settings_of(shared_redis.url, provider.issuer, api))
    assert about_sessions(ended) == [
        (
            "ok",
            "auth0: can be listed, idle limit 3d, absolute limit 7d (the tenant's settings)",
        )
    ]
    assert ended.status == 0


def test_sessions_that_outlive_the_markers_are_a_warning_and_not_a_fault(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    with Auth0Api() as api:
        api.settings["session_lifetime"] = 365 * 24
        ended = run("check", settings_of(shared_redis.url, provider.issuer, api))
    _, (verdict, detail) = about_sessions(ended)
    assert verdict == "warn"
    assert "they live for 365d, but the markers of shop end after 30d (max_session_age)" in detail
    assert ended.status == 0


@pytest.mark.slow
def test_without_the_scope_for_settings_auth0s_maximum_is_compared(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    with Auth0Api() as api:
        api.scopes.discard("read:tenant_settings")
        ended = run("check", settings_of(shared_redis.url, provider.issuer, api))
    assert [verdict for verdict, _ in about_sessions(ended)] == ["ok", "warn"]
    assert "they live for 365d" in about_sessions(ended)[1][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("api", "absolute", "source"),
    [(KratosApi, "24h", "lifespan in the settings"), (KeycloakApi, "10h", "the realm's settings")],
)
def test_the_lifetimes_of_each_provider_are_compared(
    run: Run, provider: Provider, shared_redis: RedisServer, api: type[Api], absolute: str,
    source: str,
) -> None:  # fmt: skip
    with api() as server:
        if isinstance(server, KeycloakApi):
            more = {"api_url": server.origin, "realm": "shop"}
        else:
            more = {"lifespan": "24h"}
        text = settings_of(shared_redis.url, provider.issuer, server, max_session_age="9h", **more)
        ended = run("check", text)
    (right, described), (warn, warned) = about_sessions(ended)
    assert (right, warn) == ("ok", "warn")
    text = {"24h": "1d"}.get(absolute, absolute)
    assert f"absolute limit {text} ({source})" in described
    assert f"they live for {text}" in warned


@pytest.mark.slow
def test_kratos_is_not_asked_for_keys(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    with KratosApi() as api:
        ended = run("check", settings_of(shared_redis.url, provider.issuer, api))
    assert provider.requests == {}
    assert f"issuer {provider.issuer}" not in ended.out
    assert "it sends no logout tokens" in about_sessions(ended)[0][1]
    assert ended.status == 0


@pytest.mark.slow
def test_credentials_without_the_right_to_list_sessions_are_a_fault(
    run: Run, provider: Provider, shared_redis: RedisServer
) -> None:
    with Auth0Api() as api:
        api.scopes.clear()
        ended = run("check", settings_of(shared_redis.url, provider.issuer, api))
        wrong = run("check", settings_of(shared_redis.url, provider.issuer, api, secret="hunter2"))
    assert ended.status == wrong.status == 1
    assert about_sessions(ended)[0][0] == about_sessions(wrong)[0][0] == "WRONG"
    assert "forbidden: http_403: the credentials" in about_sessions(ended)[0][1]
    assert "unauthorized: token_http_401: the provider" in about_sessions(wrong)[0][1]
    assert "hunter2" not in wrong.out + wrong.err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2592000, "30d"), (129600, "36h"), (5400, "90m"), (61, "61s"), (0.5, "0.5s"), (0, "0s")],
)
def test_a_duration_is_shown_in_its_largest_whole_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
