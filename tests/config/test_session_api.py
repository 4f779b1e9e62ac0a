"""``[issuers.sessions]``: the settings of each kind, and the sources of its secret."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.config.load import SettingsFault, load
from app.config.model import Settings
from app.config.session_api import realm_in
from app.sessions.providers.factory import kratos_whoami, session_provider
from app.tokens.fetch import new_client
from tests.sessions.provider_fixtures import tls

SECRET = "hunter2-is-my-secret"

Load = Callable[..., Settings]

HEAD = 'redis_url = "redis://127.0.0.1:6379/0"\n'
AUTH0 = 'kind = "auth0"\nclient_id = "m2m"'
KEYCLOAK = 'kind = "keycloak"\nclient_id = "m2m"'
KRATOS = 'kind = "kratos"\nadmin_url = "http://127.0.0.1:4434"'


def issuer(
    sessions: str, *, name: str = "https://op.example/", app: str = "shop", more: str = ""
) -> str:
    client_id = "" if "kratos" in sessions else f'client_id = "{app}-web"\n'
    return f"""
[[issuers]]
issuer = "{name}"
{more}
[[issuers.clients]]
{client_id}app = "{app}"
[issuers.sessions]
{sessions}
"""


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    def load_text(text: str, environ: Mapping[str, str] | None = None) -> Settings:
        path = tmp_path / "settings.toml"
        path.write_text(HEAD + text, "utf-8")
        return load(path, environ or {})

    return load_text


@pytest.fixture
def faults(loaded: Load) -> Callable[..., list[str]]:
    def faults_of(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(SettingsFault) as caught:
            loaded(text, environ)
        assert SECRET not in str(caught.value)
        return [line.partition(": ")[0] for line in caught.value.faults]

    return faults_of


# -- valid settings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        (issuer(f'{AUTH0}\nsecret = "{SECRET}"'), {}),
        (issuer(AUTH0), {"BCL_SESSIONS_SECRET": SECRET}),
        (f'sessions_secret = "{SECRET}"\n' + issuer(AUTH0), {}),
    ],
    ids=["in the table", "environment", "top level"],
)
def test_the_secret_has_several_sources(text: str, environ: dict[str, str], loaded: Load) -> None:
    settings = loaded(text, environ)
    sessions = settings.issuers[0].sessions
    assert sessions is not None
    assert sessions.effective_secret is not None
    assert sessions.effective_secret.get_secret_value() == SECRET
    assert SECRET not in repr(settings)


def test_the_secret_can_be_in_a_file(loaded: Load, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    settings = loaded(issuer(f'{AUTH0}\nsecret_file = "{tmp_path}/secret"'))
    sessions = settings.issuers[0].sessions
    assert sessions is not None
    assert sessions.effective_secret is not None
    assert sessions.effective_secret.get_secret_value() == SECRET
    assert SECRET not in repr(settings)


def test_one_of_several_session_apis_takes_its_secret_from_the_environment(
    loaded: Load,
) -> None:
    keycloak = issuer(
        f'{KEYCLOAK}\nsecret = "its own"', name="https://kc.example/realms/shop", app="wiki"
    )
    settings = loaded(issuer(AUTH0) + keycloak, {"BCL_SESSIONS_SECRET": SECRET})
    apis = [issuer.sessions for issuer in settings.issuers if issuer.sessions]
    secrets = [api.effective_secret for api in apis]
    assert [secret.get_secret_value() for secret in secrets if secret] == [SECRET, "its own"]


async def test_defaults_follow_from_the_issuer(loaded: Load) -> None:
    text = issuer(f'{AUTH0}\nsecret = "s"', name="https://tenant.eu.auth0.com/")
    text += issuer(
        f'{KEYCLOAK}\nsecret = "s"', name="https://kc.example/auth/realms/shop", app="wiki"
    )
    text += issuer(KRATOS, name="https://kratos.example/", app="forum")
    async with new_client(tls()) as client:
        auth0, keycloak, kratos = (session_provider(it, client) for it in loaded(text).issuers)
    access = vars(auth0)["_calls"].access
    assert vars(auth0)["_calls"].base_url == "https://tenant.eu.auth0.com"
    assert access.token_url == "https://tenant.eu.auth0.com/oauth/token"
    assert access.audience == "https://tenant.eu.auth0.com/api/v2/"
    access = vars(keycloak)["_calls"].access
    assert vars(keycloak)["_calls"].base_url == "https://kc.example/auth"
    assert vars(keycloak)["_path"] == "/admin/realms/shop"
    assert access.token_url == "https://kc.example/auth/realms/shop/protocol/openid-connect/token"
    assert vars(kratos)["_calls"].base_url == "http://127.0.0.1:4434"


def test_a_kratos_issuer_signs_nothing_and_its_clients_need_no_id(loaded: Load) -> None:
    settings = loaded(issuer(KRATOS) + issuer(f'{AUTH0}\nsecret="s"', name="https://a.example/"))
    assert [issuer.signs for issuer in settings.issuers] == [False, True]
    assert [issuer.issuer for issuer in settings.signing_issuers] == ["https://a.example/"]
    assert [client.app for client in settings.issuers[0].clients] == ["shop"]


async def test_an_issuer_without_a_session_api_has_no_adapter(loaded: Load) -> None:
    text = '[[issuers]]\nissuer = "https://op.example/"\n[[issuers.clients]]\nclient_id = "shop"'
    settings = loaded(text)
    async with new_client(tls()) as client:
        assert session_provider(settings.issuers[0], client) is None
        assert kratos_whoami(settings.issuers[0], client) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("https://kc.example/realms/shop", ("https://kc.example", "shop")),
        ("https://kc.example/auth/realms/shop", ("https://kc.example/auth", "shop")),
        ("https://kc.example/realms/my realm", ("https://kc.example", "my realm")),
        ("https://kc.example/realms/shop/", None),
        ("https://kc.example/realms/", None),
        ("https://kc.example/realms/a%2fb", None),
        ("https://login.example/", None),
        ("/realms/shop", None),
    ],
)
def test_a_keycloak_issuer_names_host_and_realm(name: str, found: Any) -> None:
    assert realm_in(name) == found


# -- faults --------------------------------------------------------------------------------

S = "issuers[0].sessions"

FAULTS: dict[str, tuple[str, dict[str, str], list[str]]] = {
    "two issuers whose Kratos identifies users": (
        'account_listen = "127.0.0.1:0"\n'
        + issuer(f'{KRATOS}\npublic_url = "https://kratos.example/"')
        + issuer(
            f'{KRATOS}\npublic_url = "https://kratos.example/"', name="https://other.example/",
            app="wiki",
        ),
        {}, ["issuers[1].sessions.public_url"],
    ),
    "no kind": (issuer('client_id = "m2m"'), {}, [f"{S}.kind"]),
    "another kind": (issuer('kind = "okta"'), {}, [f"{S}.kind"]),
    "a kind that is a list": (issuer('kind = ["auth0"]'), {}, [f"{S}.kind"]),
    "an unknown setting": (
        issuer(f'{AUTH0}\nsecret = "s"\nclient_secret = "{SECRET}"'), {}, [f"{S}.client_secret"],
    ),
    "no credentials": (issuer('kind = "auth0"'), {}, [f"{S}.client_id", f"{S}.secret"]),
    "no secret for Keycloak": (
        issuer(KEYCLOAK, name="https://kc.example/realms/shop"), {}, [f"{S}.secret"],
    ),
    "two secrets": (
        issuer(f'{AUTH0}\nsecret = "{SECRET}"\nsecret_file = "/etc/hostname"'), {},
        [f"{S}.secret_file"],
    ),
    "a missing file": (
        issuer(f'{AUTH0}\nsecret_file = "/nowhere/secret"'), {}, [f"{S}.secret_file"],
    ),
    "an empty file": (issuer(f'{AUTH0}\nsecret_file = "/dev/null"'), {}, [f"{S}.secret_file"]),
    "a directory": (issuer(f'{AUTH0}\nsecret_file = "/etc"'), {}, [f"{S}.secret_file"]),
    "an empty secret": (issuer(f'{AUTH0}\nsecret = ""'), {}, [f"{S}.secret"]),
    "a secret that is a number": (issuer(f"{AUTH0}\nsecret = 1"), {}, [f"{S}.secret"]),
    "plain http": (
        issuer(f'{AUTH0}\nsecret = "s"\napi_url = "http://op.example"'), {}, [f"{S}.api_url"],
    ),
    "a password in a URL": (
        issuer(f'{AUTH0}\nsecret = "s"\napi_url = "https://u:{SECRET}@op.example"'), {},
        [f"{S}.api_url"],
    ),
    "Kratos' settings for Auth0": (
        issuer(f'{AUTH0}\nsecret = "s"\nadmin_url = "https://k.example"\nlifespan = "1h"'), {},
        [f"{S}.admin_url", f"{S}.lifespan"],
    ),
    "a client for Kratos": (issuer(f'{KRATOS}\nclient_id = "m2m"'), {}, [f"{S}.client_id"]),
    "Kratos without an admin API": (issuer('kind = "kratos"'), {}, [f"{S}.admin_url"]),
    "keys of Kratos": (
        issuer(KRATOS, more='jwks_uri = "https://op.example/jwks"'), {}, ["issuers[0].jwks_uri"],
    ),
    "a Keycloak issuer without a realm": (
        issuer(f'{KEYCLOAK}\nsecret = "s"'), {}, [f"{S}.api_url", f"{S}.realm"],
    ),
    "a realm with a slash": (
        issuer(f'{KEYCLOAK}\nsecret = "s"\napi_url = "https://kc.example"\nrealm = "a/b"'), {},
        [f"{S}.realm"],
    ),
    "a secret for two providers": (
        issuer(AUTH0) + issuer(AUTH0, name="https://b.example/", app="wiki"),
        {"BCL_SESSIONS_SECRET": SECRET}, ["BCL_SESSIONS_SECRET"],
    ),
    "a secret for no provider": (
        issuer(f'{AUTH0}\nsecret = "s"'), {"BCL_SESSIONS_SECRET": SECRET}, ["BCL_SESSIONS_SECRET"],
    ),
    "no table": (
        '[[issuers]]\nissuer = "https://op.example/"\nsessions = "auth0"\nclients = []', {},
        ["issuers[0].clients", S],
    ),
    "a lifespan that is not a duration": (
        issuer(f'{KRATOS}\nlifespan = "long"'), {}, [f"{S}.lifespan"],
    ),
    "sessions in the environment": (
        issuer(f'{AUTH0}\nsecret = "s"'), {"BCL_SESSIONS": "auth0"}, ["BCL_SESSIONS"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "environ", "names"), FAULTS.values(), ids=FAULTS)
def test_fault(
    text: str, environ: dict[str, str], names: list[str], faults: Callable[..., list[str]]
) -> None:
    assert faults(text, environ) == names
