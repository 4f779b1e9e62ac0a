"""Files, environment and defaults, and their precedence."""

from pathlib import Path

import pytest

from app.config.load import load
from tests.config.conftest import Load
from tests.config.example_settings import EXAMPLE, SHORT, another_issuer, document


def test_the_example_of_the_contract_loads_unchanged(loaded: Load) -> None:
    settings = loaded(EXAMPLE)
    assert settings.listen == ("127.0.0.1", 8000)
    assert settings.admin_listen == ("127.0.0.1", 9000)
    assert settings.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert not settings.embedded
    (issuer,) = settings.issuers
    assert issuer.names == ("https://tenant.eu.auth0.com/",)
    assert issuer.algorithms == ("RS256",)
    assert issuer.jwks_uri is None
    (client,) = issuer.clients
    assert (client.client_id, client.app, client.max_session_age) == ("shop-web", "shop", 2592000)


def test_the_defaults_are_those_of_the_contract(loaded: Load) -> None:
    settings = loaded(document())
    (issuer,) = settings.issuers
    assert settings.listen == ("127.0.0.1", 8000)
    assert settings.admin_listen == ("127.0.0.1", 9000)
    assert str(settings.data_dir) == "data"
    assert (settings.embedded_port, settings.keep_alive) == (6390, 75)
    assert settings.event_retention == 7 * 86400
    assert (issuer.algorithms, issuer.leeway, issuer.max_token_age) == (("RS256",), 60, 300)
    assert (issuer.strict, issuer.require_exp, issuer.allow_http) == (False, False, False)
    assert (issuer.jwks_refresh, issuer.jwks_max_stale) == (600, 86400)
    assert issuer.clients[0].max_session_age == 30 * 86400
    assert issuer.clients[0].both_claims == "session"


def test_one_issuer_and_one_client_need_no_file() -> None:
    settings = load(None, SHORT | {"BCL_APP": "shop", "BCL_MAX_SESSION_AGE": "24h"})
    (issuer,) = settings.issuers
    (client,) = issuer.clients
    assert issuer.issuer == "https://op.example/"
    assert (client.client_id, client.app, client.max_session_age) == ("shop-web", "shop", 86400)


def test_the_short_form_works_in_a_file_and_takes_lists_from_the_environment(loaded: Load) -> None:
    settings = loaded(
        'issuer = "https://op.example/"\nclient_id = "shop-web"\nredis_url = "redis://h"\n',
        {"BCL_ALIASES": "https://a.example, https://b.example", "BCL_ALGORITHMS": "ES256,EdDSA"},
    )
    (issuer,) = settings.issuers
    assert issuer.names == ("https://op.example/", "https://a.example", "https://b.example")
    assert issuer.algorithms == ("ES256", "EdDSA")


def test_the_environment_takes_precedence_over_the_file(loaded: Load) -> None:
    settings = loaded(
        EXAMPLE,
        {
            "BCL_LISTEN": "[::1]:8443",
            "BCL_REDIS_URL": "rediss://h/1",
            "BCL_LEEWAY": "10s",
            "BCL_STRICT": "true",
            "BCL_EMBEDDED_PORT": "7000",
            "PATH": "/bin",
        },
    )
    assert settings.listen == ("::1", 8443)
    assert settings.redis_url.get_secret_value() == "rediss://h/1"
    assert settings.embedded_port == 7000
    assert (settings.issuers[0].leeway, settings.issuers[0].strict) == (10, True)


def test_bcl_config_is_a_path_and_the_argument_takes_precedence(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(document(client=f'app = "{name}"'))
    environ = {"BCL_CONFIG": str(tmp_path / "one.toml")}
    assert load(None, environ).issuers[0].clients[0].app == "one"
    assert load(tmp_path / "two.toml", environ).issuers[0].clients[0].app == "two"


def test_an_empty_bcl_config_is_ignored() -> None:
    assert load(None, SHORT | {"BCL_CONFIG": ""}).issuers[0].issuer == "https://op.example/"


def test_the_top_level_sets_defaults_which_issuers_and_clients_override(
    loaded: Load,
) -> None:
    settings = loaded("""
redis_url = "redis://h"
leeway = 5
max_token_age = "2m"
strict = true
require_exp = true
allow_http = true
algorithms = ["ES256"]
jwks_refresh = "1h"
max_session_age = "12h"
both_claims = "user"
[[issuers]]
issuer = "http://one.example"
clients = [
  {client_id = "a"},
  {client_id = "b", max_session_age = "1h", both_claims = "session"},
]
[[issuers]]
issuer = "https://two.example"
leeway = 60
max_token_age = 300
strict = false
require_exp = false
allow_http = false
algorithms = ["RS256"]
jwks_refresh = 600
clients = [{client_id = "c"}]
""")
    one, two = settings.issuers
    assert (one.leeway, one.max_token_age, one.strict, one.require_exp) == (5, 120, True, True)
    assert (one.allow_http, one.algorithms, one.jwks_refresh) == (True, ("ES256",), 3600)
    # Also with values that are the built-in defaults.
    assert (two.leeway, two.max_token_age, two.strict, two.require_exp) == (60, 300, False, False)
    assert (two.allow_http, two.algorithms, two.jwks_refresh) == (False, ("RS256",), 600)
    assert [client.max_session_age for client in one.clients] == [43200, 3600]
    assert [client.both_claims for client in one.clients] == ["user", "session"]
    assert two.clients[0].max_session_age == 43200


def test_the_default_of_app_is_the_client_id(loaded: Load) -> None:
    assert loaded(document()).issuers[0].clients[0].app == "shop-web"


def test_one_app_may_have_clients_of_two_issuers(loaded: Load) -> None:
    settings = loaded(document(client='app = "shop"', rest=another_issuer('app = "shop"')))
    assert [issuer.clients[0].app for issuer in settings.issuers] == ["shop", "shop"]


def test_embedded_is_an_explicit_url(loaded: Load) -> None:
    assert loaded(document().replace("redis://127.0.0.1:6379/0", "embedded")).embedded
    assert not loaded(document().replace("127.0.0.1:6379", "embedded")).embedded


GOOD_VALUES = {
    "http on a loopback address": document().replace("https://op.example/", "http://127.0.0.1:1"),
    "http on localhost": document().replace("https://op.example/", "http://localhost:8080/realm"),
    "http on [::1]": document().replace("https://op.example/", "http://[::1]:8080"),
    "http, allowed on the issuer": document(issuer="allow_http = true").replace("https:", "http:"),
    "Redis with TLS": document().replace("redis:", "rediss:"),
    "a Redis socket": document().replace("redis://127.0.0.1:6379/0", "unix:///run/redis.sock?db=3"),
    "a Redis URL with options": document().replace(
        "redis://127.0.0.1:6379/0", "rediss://u:p%2Fw@h:1/2?ssl_ca_certs=/etc/ca.pem&protocol=3"
    ),
    "a jwks_uri with a query": document(
        issuer='jwks_uri = "https://login.example/keys?p=B2C_1_signin"'
    ),
    "a client id that is not an app name": document(client='app = "shop"').replace(
        "shop-web", "https://shop.example/#client"
    ),
    "all algorithms": document(
        issuer='algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", '
        '"ES384", "ES512", "EdDSA", "Ed25519"]'
    ),
    "an alias of its own": document(issuer='aliases = ["https://alias.example"]'),
    "the current directory": document(top='data_dir = "."'),
}


@pytest.mark.parametrize("text", GOOD_VALUES.values(), ids=GOOD_VALUES)
def test_a_valid_value_loads(text: str, loaded: Load) -> None:
    assert loaded(text).issuers
