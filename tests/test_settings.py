"""What an operator may say: every fault at once, each by name, and never a secret."""

import json
import traceback
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.settings import Settings, SettingsFault, load
from app.settings_values import seconds
from tests.support.receiver import run_app

# Section 7 of the contract, word for word.
EXAMPLE = """\
listen = "127.0.0.1:8000"
admin_listen = "127.0.0.1:9000"
redis_url = "redis://127.0.0.1:6379/0"

[[issuers]]
issuer = "https://tenant.eu.auth0.com/"
# jwks_uri = "https://tenant.eu.auth0.com/.well-known/jwks.json"
algorithms = ["RS256"]

  [[issuers.clients]]
  client_id = "shop-web"
  app = "shop"                # the relying app's name in Redis
  max_session_age = "30d"     # the longest an app session can live after its login
"""

SHORT = {
    "BCL_ISSUER": "https://op.example/",
    "BCL_CLIENT_ID": "shop-web",
    "BCL_REDIS_URL": "redis://127.0.0.1:6379/0",
}

Load = Callable[..., Settings]
Faults = Callable[..., list[str]]


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Load a settings file with this text, and an environment."""

    def load_text(text: str, environ: Mapping[str, str] | None = None) -> Settings:
        path = tmp_path / "settings.toml"
        path.write_text(text, "utf-8")
        return load(path, environ or {})

    return load_text


@pytest.fixture
def faults(loaded: Load) -> Faults:
    """The faults of a settings file with this text, and an environment."""

    def faults_of(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(SettingsFault) as caught:
            loaded(text, environ)
        assert str(caught.value) == "\n".join(caught.value.faults)
        return caught.value.faults

    return faults_of


def named(lines: list[str]) -> list[str]:
    """The settings that the faults name."""
    return [line.partition(": ")[0] for line in lines]


def document(*, top: str = "", issuer: str = "", client: str = "", rest: str = "") -> str:
    """A good file with lines added to its parts."""
    return f"""
redis_url = "redis://127.0.0.1:6379/0"
{top}
[[issuers]]
issuer = "https://op.example/"
{issuer}
[[issuers.clients]]
client_id = "shop-web"
{client}
{rest}
"""


# -- what works ----------------------------------------------------------------------------


def test_the_example_of_the_contract_loads_as_it_stands(loaded: Load) -> None:
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


def test_the_environment_wins_over_the_file(loaded: Load) -> None:
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


def test_config_is_a_path_too_and_the_argument_wins(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(document(client=f'app = "{name}"'))
    environ = {"BCL_CONFIG": str(tmp_path / "one.toml")}
    assert load(None, environ).issuers[0].clients[0].app == "one"
    assert load(tmp_path / "two.toml", environ).issuers[0].clients[0].app == "two"


def test_an_empty_bcl_config_is_none() -> None:
    assert load(None, SHORT | {"BCL_CONFIG": ""}).issuers[0].issuer == "https://op.example/"


def test_the_top_level_holds_the_defaults_of_issuers_and_clients_and_their_own_win(
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
    # Also where the issuer's own is the built-in default.
    assert (two.leeway, two.max_token_age, two.strict, two.require_exp) == (60, 300, False, False)
    assert (two.allow_http, two.algorithms, two.jwks_refresh) == (False, ("RS256",), 600)
    assert [client.max_session_age for client in one.clients] == [43200, 3600]
    assert [client.both_claims for client in one.clients] == ["user", "session"]
    assert two.clients[0].max_session_age == 43200


def test_a_client_id_that_is_an_app_name_is_the_app(loaded: Load) -> None:
    assert loaded(document()).issuers[0].clients[0].app == "shop-web"


def test_one_app_may_have_clients_of_two_issuers(loaded: Load) -> None:
    settings = loaded(document(client='app = "shop"', rest=another_issuer('app = "shop"')))
    assert [issuer.clients[0].app for issuer in settings.issuers] == ["shop", "shop"]


def another_issuer(client: str, *, client_id: str = "shop-web", issuer: str = "") -> str:
    return (
        f'[[issuers]]\nissuer = "https://second.example/"\n{issuer}\n'
        f'[[issuers.clients]]\nclient_id = "{client_id}"\n{client}'
    )


def test_embedded_is_only_what_was_said(loaded: Load) -> None:
    assert loaded(document().replace("redis://127.0.0.1:6379/0", "embedded")).embedded
    assert not loaded(document().replace("127.0.0.1:6379", "embedded")).embedded


GOOD_VALUES = {
    "http on a loopback address": document().replace("https://op.example/", "http://127.0.0.1:1"),
    "http on localhost": document().replace("https://op.example/", "http://localhost:8080/realm"),
    "http on [::1]": document().replace("https://op.example/", "http://[::1]:8080"),
    "http, allowed on the issuer": document(issuer="allow_http = true").replace("https:", "http:"),
    "a redis with TLS": document().replace("redis:", "rediss:"),
    "a redis socket": document().replace("redis://127.0.0.1:6379/0", "unix:///run/redis.sock?db=3"),
    "a redis URL with options": document().replace(
        "redis://127.0.0.1:6379/0", "rediss://u:p%2Fw@h:1/2?ssl_ca_certs=/etc/ca.pem&protocol=3"
    ),
    "a jwks_uri with a query": document(
        issuer='jwks_uri = "https://login.example/keys?p=B2C_1_signin"'
    ),
    "a client id that is no app name": document(client='app = "shop"').replace(
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
def test_good(text: str, loaded: Load) -> None:
    assert loaded(text).issuers


# -- faults --------------------------------------------------------------------------------

CLIENT = "issuers[0].clients[0]"

FAULTS: dict[str, tuple[str, dict[str, str], list[str]]] = {
    "nothing at all": ("", {}, ["issuers", "redis_url"]),
    "no redis_url": (document().replace("redis_url", "# redis_url"), {}, ["redis_url"]),
    "an empty redis_url": (document(), {"BCL_REDIS_URL": ""}, ["BCL_REDIS_URL"]),
    "embedded in another case": (document(), {"BCL_REDIS_URL": "Embedded"}, ["BCL_REDIS_URL"]),
    "an http URL for Redis": (document(), {"BCL_REDIS_URL": "http://h"}, ["BCL_REDIS_URL"]),
    "a Redis URL without a host": (document(), {"BCL_REDIS_URL": "redis://"}, ["BCL_REDIS_URL"]),
    "a Redis URL with a word for a port": (
        document(), {"BCL_REDIS_URL": "redis://h:redis"}, ["BCL_REDIS_URL"],
    ),
    "a Redis URL with a word for a database": (
        document(), {"BCL_REDIS_URL": "redis://h/prod"}, ["BCL_REDIS_URL"],
    ),
    "a Redis URL with an unknown option": (
        document(), {"BCL_REDIS_URL": "redis://h?retries=9"}, ["BCL_REDIS_URL"],
    ),
    "a Redis URL that wants a time of its own": (
        document(), {"BCL_REDIS_URL": "redis://h?socket_timeout=60"}, ["BCL_REDIS_URL"],
    ),
    "a Redis URL with a wrong option": (
        document(), {"BCL_REDIS_URL": "redis://h?protocol=9"}, ["BCL_REDIS_URL"],
    ),
    "a number for redis_url": (
        document().replace('"redis://127.0.0.1:6379/0"', "6379"), {}, ["redis_url"],
    ),
    "no issuer": ('redis_url = "redis://h"', {}, ["issuers"]),
    "an empty list of issuers": ('redis_url = "redis://h"\nissuers = []', {}, ["issuers"]),
    "issuers that are no tables": (
        'redis_url = "redis://h"\nissuers = ["https://op.example"]', {}, ["issuers[0]"],
    ),
    "an issuer without clients": (
        'redis_url = "redis://h"\n[[issuers]]\nissuer = "https://op.example"', {},
        ["issuers[0].clients"],
    ),
    "an issuer with an empty list of clients": (
        'redis_url = "redis://h"\n[[issuers]]\nissuer = "https://op.example"\nclients = []', {},
        ["issuers[0].clients"],
    ),
    "an unknown setting": (document(top="colour = 1"), {}, ["colour"]),
    "an unknown setting of an issuer": (document(issuer="jwks = 1"), {}, ["issuers[0].jwks"]),
    "an unknown setting of a client": (document(client="secret = 1"), {}, [f"{CLIENT}.secret"]),
    "a client's setting at an issuer": (
        document(issuer='max_session_age = "1d"'), {}, ["issuers[0].max_session_age"],
    ),
    "an unknown variable": (document(), {"BCL_COLOUR": "1"}, ["BCL_COLOUR"]),
    "a variable in small letters": (document(), {"BCL_Listen": "h:1"}, ["BCL_Listen"]),
    "a variable without a name": (document(), {"BCL_": "1"}, ["BCL_"]),
    "issuers as a variable": (document(), {"BCL_ISSUERS": "[]"}, ["BCL_ISSUERS"]),
    "short form beside a table": (
        document(), {"BCL_ISSUER": "https://x", "BCL_APP": "x"}, ["BCL_APP", "BCL_ISSUER"],
    ),
    "short form without a client": (
        "", {k: v for k, v in SHORT.items() if k != "BCL_CLIENT_ID"}, ["BCL_CLIENT_ID"],
    ),
    "short form without an issuer": (
        "", {k: v for k, v in SHORT.items() if k != "BCL_ISSUER"}, ["BCL_ISSUER"],
    ),
    "short form in a file without a client": (
        'redis_url = "redis://h"\nissuer = "https://op.example"', {}, ["client_id"],
    ),
    "short form with wrong values": (
        "", SHORT | {"BCL_ISSUER": "op", "BCL_APP": "Shop", "BCL_MAX_SESSION_AGE": "long",
                     "BCL_JWKS_URI": "keys"},
        ["BCL_APP", "BCL_ISSUER", "BCL_JWKS_URI", "BCL_JWKS_URI", "BCL_MAX_SESSION_AGE"],
    ),
    "an http issuer": (document().replace("https:", "http:"), {}, ["issuers[0].issuer"]),
    "an http issuer that looks like loopback": (
        document().replace("https://op.example/", "http://127.0.0.1.example/"), {},
        ["issuers[0].issuer"],
    ),
    "http allowed only at another issuer": (
        document(rest=another_issuer('app = "b"', issuer="allow_http = true")).replace(
            "https://op", "http://op"
        ).replace('client_id = "shop-web"\n\n', 'client_id = "shop-web"\napp = "a"\n'), {},
        ["issuers[0].issuer"],
    ),
    "http keys of an https issuer": (
        document(issuer='jwks_uri = "http://op.example/keys"'), {}, ["issuers[0].jwks_uri"],
    ),
    "an issuer that is no URL": (
        document().replace("https://op.example/", "op.example"), {}, ["issuers[0].issuer"],
    ),
    "an issuer with a query": (
        document().replace("op.example/", "op.example/?"), {}, ["issuers[0].issuer"],
    ),
    "an issuer with a fragment": (
        document().replace("op.example/", "op.example/#x"), {}, ["issuers[0].issuer"],
    ),
    "an issuer with a space": (
        document().replace("op.example/", "op.example/ "), {}, ["issuers[0].issuer"],
    ),
    "an issuer with a user": (
        document().replace("op.example/", "u@op.example/"), {}, ["issuers[0].issuer"],
    ),
    "an empty issuer": (
        document().replace("https://op.example/", ""), {}, ["issuers[0].issuer"],
    ),
    "alg none": (
        document(issuer='algorithms = ["none"]'), {}, ["issuers[0].algorithms[0]"],
    ),
    "a symmetric alg beside a good one": (
        document(issuer='algorithms = ["RS256", "HS256"]'), {}, ["issuers[0].algorithms[1]"],
    ),
    "an alg in another case": (
        document(issuer='algorithms = ["rs256"]'), {}, ["issuers[0].algorithms[0]"],
    ),
    "no alg": (document(issuer="algorithms = []"), {}, ["issuers[0].algorithms"]),
    "a symmetric alg for all": (document(), {"BCL_ALGORITHMS": "HS256"}, ["algorithms[0]"]),
    "a client id that is no app name": (
        document().replace("shop-web", "Shop Web"), {}, [f"{CLIENT}.app"],
    ),
    "an app that is no app name": (document(client='app = "Shop"'), {}, [f"{CLIENT}.app"]),
    "an app of 64 characters": (
        document(client=f'app = "{"a" * 64}"'), {}, [f"{CLIENT}.app"],
    ),
    "an empty app": (document(client='app = ""'), {}, [f"{CLIENT}.app"]),
    "an empty client id": (document().replace("shop-web", ""), {}, [f"{CLIENT}.app",
                                                                     f"{CLIENT}.client_id"]),
    "one app under two issuers, written nowhere": (
        document(rest=another_issuer("")), {}, [f"{CLIENT}.app", "issuers[1].clients[0].app"],
    ),
    "one app under two issuers, written in the first": (
        document(client='app = "shop-web"', rest=another_issuer("")), {},
        ["issuers[1].clients[0].app"],
    ),
    "one app under two issuers, written in the second": (
        document(rest=another_issuer('app = "shop-web"', client_id="two")), {}, [f"{CLIENT}.app"],
    ),
    "two ages of one app": (
        document(
            client='app = "shop"\nmax_session_age = "1d"',
            rest=another_issuer('app = "shop"\nmax_session_age = "2d"'),
        ), {}, ["issuers[1].clients[0].max_session_age"],
    ),
    "one age of an app and the default": (
        document(client='app = "shop"', rest='[[issuers.clients]]\nclient_id = "b"\n'
                 'app = "shop"\nmax_session_age = "2d"'),
        {}, ["issuers[0].clients[1].max_session_age"],
    ),
    "two ways of both_claims in one app and issuer": (
        document(client='app = "shop"', rest='[[issuers.clients]]\nclient_id = "b"\n'
                 'app = "shop"\nboth_claims = "user"'),
        {}, ["issuers[0].clients[1].both_claims"],
    ),
    "an unknown both_claims": (
        document(client='both_claims = "all"'), {}, [f"{CLIENT}.both_claims"],
    ),
    "one client id twice": (
        document(rest='[[issuers.clients]]\nclient_id = "shop-web"'), {},
        ["issuers[0].clients[1].client_id"],
    ),
    "one issuer twice": (
        document(client='app = "shop"', rest=another_issuer('app = "shop"').replace(
            "second.example", "op.example")), {}, ["issuers[1].issuer"],
    ),
    "another issuer's name as an alias": (
        document(client='app = "shop"', rest=another_issuer(
            'app = "shop"', issuer='aliases = ["https://x", "https://op.example/"]')), {},
        ["issuers[1].aliases[1]"],
    ),
    "one alias twice": (
        document(issuer='aliases = ["https://a.example", "https://a.example"]'), {},
        ["issuers[0].aliases[1]"],
    ),
    "its own name as an alias": (
        document(issuer='aliases = ["https://op.example/"]'), {}, ["issuers[0].aliases[0]"],
    ),
    "an alias that is no URL": (
        document(issuer='aliases = ["op"]'), {}, ["issuers[0].aliases[0]"],
    ),
    "a port alone": (document(), {"BCL_LISTEN": "8000"}, ["BCL_LISTEN"]),
    "a port above 65535": (document(), {"BCL_LISTEN": "h:65536"}, ["BCL_LISTEN"]),
    "a bare IPv6 address": (document(), {"BCL_ADMIN_LISTEN": "::1:80"}, ["BCL_ADMIN_LISTEN"]),
    "a leeway above ten minutes": (document(top='leeway = "11m"'), {}, ["leeway"]),
    "an age of zero": (document(client="max_session_age = 0"), {}, [f"{CLIENT}.max_session_age"]),
    "a token age above a day": (
        document(issuer='max_token_age = "25h"'), {}, ["issuers[0].max_token_age"],
    ),
    "a truth value for a number": (document(top="event_max_len = true"), {}, ["event_max_len"]),
    "a truth value for a duration": (document(top="keep_alive = true"), {}, ["keep_alive"]),
    "a word for a truth value": (document(top='strict = "strict"'), {}, ["strict"]),
    "a fraction for a port": (document(top="embedded_port = 1.5"), {}, ["embedded_port"]),
    "port 0 for the embedded server": (document(top="embedded_port = 0"), {}, ["embedded_port"]),
    "an empty data_dir": (document(), {"BCL_DATA_DIR": ""}, ["BCL_DATA_DIR"]),
    "a NUL in data_dir": (document(top='data_dir = "a\\u0000b"'), {}, ["data_dir"]),
    "a table for a duration": (document(top="leeway = {seconds = 1}"), {}, ["leeway"]),
    "an integer without end": (document(top=f"leeway = {'9' * 400}"), {}, ["leeway"]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "environ", "names"), FAULTS.values(), ids=FAULTS)
def test_fault(text: str, environ: dict[str, str], names: list[str], faults: Faults) -> None:
    """The faults name these settings and no others."""
    found = faults(text, environ)
    assert named(found) == names
    assert all(": " in line and line == line.strip() for line in found)


def test_many_faults_in_one_file_are_all_named_at_once(faults: Faults) -> None:
    found = faults(
        """
listen = "everywhere"
leeway = "soon"
colour = "red"
[[issuers]]
issuer = "http://op.example"
algorithms = ["none"]
jwks_url = "https://op.example/keys"
[[issuers.clients]]
client_id = "Shop"
max_session_age = -1
[[issuers]]
issuer = "http://op.example"
allow_http = true
[[issuers.clients]]
client_id = "a"
app = "A"
""",
        {"BCL_STRICT": "perhaps", "BCL_REDIS": "redis://h", "BCL_CLIENT_ID": "b"},
    )
    assert named(found) == sorted(
        [
            "BCL_CLIENT_ID",
            "BCL_REDIS",
            "BCL_STRICT",
            "colour",
            "issuers[0].algorithms[0]",
            "issuers[0].clients[0].app",
            "issuers[0].clients[0].max_session_age",
            "issuers[0].issuer",
            "issuers[0].jwks_url",
            "issuers[1].clients[0].app",
            "issuers[1].issuer",
            "leeway",
            "listen",
            "redis_url",
        ]
    )


def test_a_missing_setting_says_what_it_may_be(faults: Faults) -> None:
    hints = "\n".join(faults(""))
    assert "embedded" in hints
    assert "BCL_ISSUER and BCL_CLIENT_ID" in hints


DURATIONS: list[tuple[Any, float | None]] = [
    ("30d", 2592000),
    ("24h", 86400),
    ("10m", 600),
    ("90s", 90),
    ("90", 90),
    ("1.5h", 5400),
    (" 10 m ", 600),
    ("0", 0),
    (90, 90),
    (1.5, 1.5),
    (0, 0),
    ("3650d", 315360000),
    ("3651d", None),
    (315360001, None),
    (10**400, None),
    (-(10**400), None),
    (-1, None),
    ("-1s", None),
    ("+1s", None),
    ("1w", None),
    ("1H", None),
    ("1h30m", None),
    ("1,5h", None),
    ("1e3", None),
    ("", None),
    ("soon", None),
    ("infinity", None),
    (float("inf"), None),
    (float("nan"), None),
    (True, None),
    (False, None),
    (None, None),
    ([90], None),
    (time(0, 10), None),
]


@pytest.mark.parametrize(("text", "length"), DURATIONS, ids=[repr(d[0])[:20] for d in DURATIONS])
def test_duration(text: Any, length: float | None) -> None:
    """A number of seconds or a text with one unit; anything else is a fault."""
    if length is None:
        with pytest.raises(ValueError, match="a duration is"):
            seconds(text)
    else:
        assert seconds(text) == length


BAD_FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "can not be read (No such file or directory)"),
    "not UTF-8": (b'issuer = "\xff"', "not UTF-8"),
    "UTF-16": ("listen = 1".encode("utf-16"), "not UTF-8"),
    "not TOML": (b"listen: 1\n", "not TOML (at line 1, column 7)"),
    "cut off": (b"[[issuers", "not TOML"),
    "nested without end": (b"a = " + b"[" * 10_000, "not TOML"),
    "an integer of 5000 digits": (b"a = " + b"9" * 5000, "not TOML"),
    "one name twice": (b"a = 1\na = 2\n", "not TOML (at "),
}


@pytest.mark.parametrize(("content", "sentence"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    """One fault, with the file's name and, where it is known, the place."""
    path = tmp_path / "settings.toml"
    if content is not None:
        path.write_bytes(content)
    for use in (lambda: load(path, {}), lambda: load(None, {"BCL_CONFIG": str(path)})):
        with pytest.raises(SettingsFault) as caught:
            use()
        (fault,) = caught.value.faults
        assert fault.startswith(f"{path}: {sentence}")


def test_a_directory_is_no_settings_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsFault, match="can not be read"):
        load(tmp_path, {})


# -- secrets -------------------------------------------------------------------------------

SECRET = "hunter2-is-my-password"

WITH_SECRET: dict[str, tuple[str, dict[str, str]]] = {
    "in an unknown scheme": ("", SHORT | {"BCL_REDIS_URL": f"http://:{SECRET}@h"}),
    "taken for a port": ("", SHORT | {"BCL_REDIS_URL": f"redis://h:{SECRET}"}),
    "with a slash": ("", SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET}/@h:1/0"}),
    "with a hash": ("", SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET}#@h:1/0"}),
    "with a question mark": ("", SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET}?@h:1/0"}),
    "with a space": ("", SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET} @h:1/0"}),
    "in an option": ("", SHORT | {"BCL_REDIS_URL": f"redis://h?{SECRET}={SECRET}"}),
    "in an option's value": ("", SHORT | {"BCL_REDIS_URL": f"redis://h?protocol={SECRET}"}),
    "as the database": ("", SHORT | {"BCL_REDIS_URL": f"redis://h/{SECRET}"}),
    "beside another fault": (
        "", SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET}@h", "BCL_LISTEN": "x"},
    ),
    "in a list": (f'redis_url = ["redis://:{SECRET}@h"]', {}),
    "in a table": (f'redis_url = {{url = "redis://:{SECRET}@h"}}', {}),
    "under a wrong name": (document(top=f'redis_uri = "redis://:{SECRET}@h"'), {}),
    "in a wrong variable": (document(), {"BCL_REDIS_PASSWORD": SECRET}),
    "in an issuer": (document().replace("op.example", f"u:{SECRET}@op.example"), {}),
    "in a jwks_uri": (document(issuer=f'jwks_uri = "https://u:{SECRET}@op.example/k"'), {}),
    "in a number": (document(), {"BCL_EMBEDDED_PORT": SECRET}),
    "in a duration": (document(), {"BCL_LEEWAY": SECRET}),
    "in an address": (document(), {"BCL_LISTEN": f"{SECRET}:x"}),
    "in an algorithm": (document(), {"BCL_ALGORITHMS": SECRET}),
    "in a line that is no TOML": (f'redis_url = "redis://:{SECRET}@h" "', {}),
    "in a string that does not end": (f'redis_url = "redis://:{SECRET}@h\nlisten = 1', {}),
    "in a name that stands twice": (f'a."{SECRET} (at line 1, column 1)" = 1\n' * 2, {}),
}  # fmt: skip


@pytest.mark.parametrize(("text", "environ"), WITH_SECRET.values(), ids=WITH_SECRET)
def test_a_secret_is_in_no_fault(text: str, environ: dict[str, str], tmp_path: Path) -> None:
    """Nor in the exception, its causes, or its traceback."""
    path = tmp_path / "settings.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsFault) as caught:
        load(path, environ)
    shown = [*caught.value.faults, repr(caught.value), str(caught.value)]
    shown += traceback.format_exception(caught.value)
    assert not [line for line in shown if SECRET in line]


def test_a_password_is_not_in_the_settings_that_are_shown() -> None:
    settings = load(None, SHORT | {"BCL_REDIS_URL": f"redis://:{SECRET}@h:1/0"})
    assert SECRET in settings.redis_url.get_secret_value()
    for shown in (repr(settings), str(settings), f"{settings.model_dump()}"):
        assert SECRET not in shown
    assert SECRET not in settings.model_dump_json()


def test_the_librarys_own_message_quotes_no_value_either() -> None:
    """Whoever builds `Settings` without `load` and prints the fault tells no secret."""
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"redis_url": f"http://:{SECRET}@h", "leeway": SECRET})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "case"),
    [("serve", "taken for a port"), ("check", "in a line that is no TOML")],
)
def test_no_command_prints_a_secret(command: str, case: str, tmp_path: Path) -> None:
    text, environ = WITH_SECRET[case]
    (tmp_path / "settings.toml").write_text(text)
    ended = run_app(command, "--config", "settings.toml", cwd=tmp_path, env=environ)
    assert ended.returncode == 1
    assert SECRET not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert ("BCL_REDIS_URL" if environ else "settings.toml") in ended.stdout + ended.stderr


# -- whatever arrives ----------------------------------------------------------------------

NAMES = [*Settings.model_fields, "issuer", "aliases", "jwks_uri", "clients", "client_id", "app"]

texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["https://op.example/", "http://localhost", "redis://h", "embedded", "30d", "shop", "RS256"]
)
scalars = (
    texts
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**400)
    | st.floats()
    | st.booleans()
    | st.datetimes()
    | st.dates()
    | st.times()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | texts, inner, max_size=5)
    ),
    max_leaves=12,
)


def table(**required: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A table with these settings, and perhaps with a few others that hold anything."""
    others = st.dictionaries(st.sampled_from(NAMES) | texts, values, max_size=3)
    return st.builds(lambda more, own: more | own, others, st.fixed_dictionaries(required))


clients = table(client_id=texts)
issuers = table(issuer=texts, clients=st.lists(clients, max_size=3))
documents = table() | table(redis_url=st.just("redis://h"), issuers=st.lists(issuers, max_size=3))
variables = st.sampled_from([*(f"BCL_{name.upper()}" for name in NAMES), "BCL_X", "PATH", "BCL_"])
environments = st.dictionaries(variables, texts, max_size=4)


def toml(value: Any) -> str:
    """A value as TOML; tables in line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return repr(value)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@given(document=documents, environ=environments)
@hypothesis_settings(max_examples=200, deadline=None)
def test_any_settings_load_or_are_faults(
    document: dict[str, Any], environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Settings or `SettingsFault`, never another exception."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("\n".join(f"{quoted(k)} = {toml(v)}" for k, v in document.items()), "utf-8")
    environ.pop("BCL_CONFIG", None)
    try:
        found = load(path, environ)
    except SettingsFault as fault:
        found = fault
    assert isinstance(found, Settings) or found.faults


@given(content=st.binary(max_size=60) | texts.map(lambda text: f"listen = {text}".encode()))
@hypothesis_settings(max_examples=150, deadline=None)
def test_any_file_loads_or_is_a_fault(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsFault):
        load(path, {})
