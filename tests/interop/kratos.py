"""A running Ory Kratos, with its database in memory."""

import contextlib
import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.interop.kratos_dist import program
from tests.support.receiver import wait_for
from tests.support.servers.redis_server import free_port

PASSWORD = "correct horse battery staple"

# The version of the settings' format.
RELEASE_OF_SETTINGS = "v1.3.0"

_SCHEMA = {
    "$id": "https://tests.example/user.schema.json",
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "User",
    "type": "object",
    "properties": {
        "traits": {
            "type": "object",
            "properties": {
                "email": {
                    "type": "string",
                    "format": "email",
                    "ory.sh/kratos": {"credentials": {"password": {"identifier": True}}},
                }
            },
        }
    },
}


@dataclass(frozen=True)
class LoggedIn:
    """A session of a user, with its session token or the value of its cookie."""

    id: str
    token: str


class Kratos:
    """A server's two addresses, and users who log in."""

    def __init__(self, public_url: str, admin_url: str, http: httpx.Client) -> None:
        self.public_url, self.admin_url = public_url, admin_url
        self._http = http
        self._emails: dict[str, str] = {}

    def new_user(self) -> str:
        """Create an identity; returns its id."""
        email = f"{uuid.uuid4().hex}@tests.example"
        body = {
            "schema_id": "default",
            "traits": {"email": email},
            "credentials": {"password": {"config": {"password": PASSWORD}}},
        }
        answer = self._http.post(f"{self.admin_url}/admin/identities", json=body)
        answer.raise_for_status()
        user_id = str(answer.json()["id"])
        self._emails[user_id] = email
        return user_id

    def log_in(self, user_id: str, user_agent: str = "Phone/1") -> LoggedIn:
        """Log in as a native app does."""
        flow = self._http.get(f"{self.public_url}/self-service/login/api").json()
        form = {
            "method": "password", "identifier": self._emails[user_id], "password": PASSWORD,
        }  # fmt: skip
        answer = self._http.post(
            flow["ui"]["action"], json=form, headers={"User-Agent": user_agent}
        )
        answer.raise_for_status()
        body = answer.json()
        return LoggedIn(body["session"]["id"], body["session_token"])

    def log_in_with_browser(self, user_id: str) -> LoggedIn:
        """Log in as a browser does; the token is the value of the session cookie."""
        with httpx.Client(timeout=20, trust_env=False, headers={"Accept": "application/json"}) as b:
            flow = b.get(f"{self.public_url}/self-service/login/browser").json()
            form = {
                "method": "password", "identifier": self._emails[user_id], "password": PASSWORD,
                "csrf_token": next(
                    node["attributes"]["value"] for node in flow["ui"]["nodes"]
                    if node["attributes"]["name"] == "csrf_token"
                ),
            }  # fmt: skip
            answer = b.post(flow["ui"]["action"], json=form)
            answer.raise_for_status()
            return LoggedIn(answer.json()["session"]["id"], b.cookies["ory_kratos_session"])


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Kratos]:
    """The server, on free loopback ports."""
    public, admin = free_port(), free_port()
    (directory / "schema.json").write_text(json.dumps(_SCHEMA))
    settings = {
        "version": RELEASE_OF_SETTINGS,
        "dsn": "memory",
        "serve": {
            "public": {"host": "127.0.0.1", "port": public,
                       "base_url": f"http://127.0.0.1:{public}/"},
            "admin": {"host": "127.0.0.1", "port": admin,
                      "base_url": f"http://127.0.0.1:{admin}/"},
        },
        "selfservice": {
            "default_browser_return_url": "http://127.0.0.1/",
            "methods": {"password": {"enabled": True,
                                     "config": {"haveibeenpwned_enabled": False}}},
        },
        "hashers": {"algorithm": "bcrypt", "bcrypt": {"cost": 4}},
        "identity": {
            "default_schema_id": "default",
            "schemas": [{"id": "default", "url": f"file://{directory}/schema.json"}],
        },
        "courier": {"smtp": {"connection_uri": "smtp://127.0.0.1:1/"}},
    }  # fmt: skip
    (directory / "kratos.json").write_text(json.dumps(settings))
    with (directory / "kratos.log").open("wb") as log:
        server = subprocess.Popen(
            [program(), "serve", "--dev", "--sqa-opt-out", "--config", directory / "kratos.json"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        with httpx.Client(timeout=20, trust_env=False) as http:
            kratos = Kratos(f"http://127.0.0.1:{public}", f"http://127.0.0.1:{admin}", http)
            wait_for(lambda: _ready(http, kratos), "Kratos is ready")
            yield kratos
    finally:
        server.terminate()
        server.wait(20)


def _ready(http: httpx.Client, kratos: Kratos) -> bool:
    try:
        return all(
            http.get(url).status_code == 200
            for url in (
                f"{kratos.public_url}/health/ready",
                f"{kratos.admin_url}/admin/health/ready",
            )
        )
    except httpx.TransportError:
        return False
