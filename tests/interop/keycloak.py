"""A running Keycloak for all tests of a run, with a new realm for each test."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.interop import keycloak_dist
from tests.interop.browser import Browser, loopback_only

SLOWEST_START = 180
"""Seconds: ten on an idle machine, five times that on two busy cores. Its first response of each
kind is just as slow."""

KEY_PROVIDER = "org.keycloak.keys.KeyProvider"

# The server is a child of a shell that reads a pipe. Each test process holds the pipe open; when
# the last one closes it or dies, the shell reads EOF and stops the server.
_LIVES_WITH_ITS_USERS = 'pipe=$1; shift; { "$@" & cat "$pipe" >/dev/null; kill $!; wait $!; } &'


@contextlib.contextmanager
def running(directory: Path) -> Iterator["Keycloak"]:
    """The server with files in ``directory``: the first process starts it, the last ends it."""
    directory.mkdir(exist_ok=True)
    pipe, log = directory / "users", directory / "keycloak.log"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = _hold(pipe) or _start(directory, pipe, log)
        url = _announced(log)
    try:
        with httpx.Client(**loopback_only() | {"timeout": SLOWEST_START}) as http:
            yield Keycloak(http, url)
    finally:
        os.close(held)


def _hold(pipe: Path) -> int | None:
    """Take a place among the server's users; ``None`` if there is no server."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def _start(directory: Path, pipe: Path, log: Path) -> int:
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    shutil.copy(keycloak_dist.prepared_database(), directory)
    with log.open("wb") as output:
        subprocess.run(
            ["sh", "-c", _LIVES_WITH_ITS_USERS, "sh", pipe, *keycloak_dist.command(directory)],  # noqa: S607
            env=os.environ | keycloak_dist.ENVIRONMENT, check=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    return os.open(pipe, os.O_WRONLY | os.O_CLOEXEC)


def _announced(log: Path) -> str:
    deadline = time.monotonic() + SLOWEST_START
    while not (said := re.search(r"Listening on: (http://\S+)", log.read_text())):
        assert time.monotonic() < deadline, f"Keycloak does not start:\n{log.read_text()}"
        time.sleep(0.1)
    return said[1]


class Keycloak:
    """Its admin REST API, as the master administrator."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self._http = http
        self._token = ""
        self._token_until = 0.0
        self.url = url

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call ``/admin/realms`` + ``path`` and return the response. Raises for an error."""
        response = self._http.request(
            method,
            f"{self.url}/admin/realms{path}",
            json=body,
            headers={"Authorization": f"Bearer {self.token()}"},
        )
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def token(self) -> str:
        """An access token of the administrator, valid for a minute."""
        if time.monotonic() > self._token_until:
            client_id, secret = keycloak_dist.ADMIN
            response = self._http.post(
                f"{self.url}/realms/master/protocol/openid-connect/token",
                data={"grant_type": "client_credentials"},
                auth=(client_id, secret),
            )
            granted = response.raise_for_status().json()
            self._token = granted["access_token"]
            self._token_until = time.monotonic() + granted["expires_in"] - 20
        return self._token

    def realm(self, *logins: str) -> "Realm":
        """A new realm with these users, whose password is their name.

        It lives as long as the server. It gets its signing key from here, and passwords are hashed
        once, because Keycloak's defaults take seconds.
        """
        name = f"r{uuid.uuid4().hex[:8]}"
        users = [
            {
                "username": login,
                "enabled": True,
                "email": f"{login}@example.org",
                "emailVerified": True,
                "firstName": login,
                "lastName": "Tester",
                "realmRoles": [f"default-roles-{name}"],
                "credentials": [{"type": "password", "value": login}],
            }
            for login in logins
        ]
        realm = {
            "realm": name,
            "enabled": True,
            "passwordPolicy": "hashAlgorithm(pbkdf2-sha256) and hashIterations(1)",
            "components": {KEY_PROVIDER: [_signing_key(), *_INNER_KEYS]},
            "users": users,
        }
        self.admin("POST", "", realm)
        return Realm(self, name)


def _signing_key() -> dict[str, Any]:
    """A key provider with a new RSA key; the newest key signs."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "name": f"rsa-{uuid.uuid4().hex[:8]}",
        "providerId": "rsa",
        "config": {
            "priority": [str(time.monotonic_ns())[:-6]],
            "algorithm": ["RS256"],
            "privateKey": [pem],
        },
    }


# For Keycloak's own cookies and codes.
_INNER_KEYS = [
    {"name": "hmac", "providerId": "hmac-generated", "config": {"algorithm": ["HS512"]}},
    {"name": "aes", "providerId": "aes-generated", "config": {}},
]


class Realm:
    """One issuer: its clients, users, sessions and keys."""

    ask: ClassVar = {"scope": "openid"}

    def __init__(self, keycloak: Keycloak, name: str) -> None:
        self.keycloak = keycloak
        self.name = name
        self.issuer = f"{keycloak.url}/realms/{name}"

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API of this realm."""
        return self.keycloak.admin(method, f"/{self.name}{path}", body)

    def register(
        self,
        *,
        client_id: str,
        redirect_uri: str,
        backchannel_logout_uri: str,
        alg: str,
        with_sid: bool = True,
        revoke_offline_access: bool = False,
        pairwise: bool = False,
    ) -> None:
        """Register a public client.

        ``with_sid`` is "Backchannel logout session required", ``pairwise`` gives each user a
        ``sub`` that no other client knows.
        """
        pairwise_subjects = {
            "name": "pairwise subjects",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-sha256-pairwise-sub-mapper",
            "config": {"pairwiseSubAlgorithmSalt": client_id},
        }
        self.admin(
            "POST",
            "/clients",
            {
                "clientId": client_id,
                "publicClient": True,
                "redirectUris": [redirect_uri],
                "frontchannelLogout": False,
                "attributes": {
                    "backchannel.logout.url": backchannel_logout_uri,
                    "backchannel.logout.session.required": str(with_sid).lower(),
                    "backchannel.logout.revoke.offline.tokens": str(revoke_offline_access).lower(),
                    "id.token.signed.response.alg": alg,
                    "pkce.code.challenge.method": "S256",
                },
                "protocolMappers": [pairwise_subjects] if pairwise else [],
            },
        )

    def sign_in(self, browser: Browser, page: httpx.Response, login: str) -> None:
        """Fill in the login form."""
        browser.press(page, "Sign In", username=login, password=login)

    def continue_session(self, browser: Browser, page: httpx.Response) -> None:
        """Nothing to do: with a session, there is no prompt."""

    def user_id(self, login: str) -> str:
        """Keycloak's own id of a user, which is the ``sub`` unless that is pairwise."""
        [user] = self.admin("GET", f"/users?exact=true&username={login}")
        found: str = user["id"]
        return found

    def sessions(self, login: str) -> list[dict[str, Any]]:
        """The user's sessions; each one's ``id`` is the ``sid``."""
        found: list[dict[str, Any]] = self.admin("GET", f"/users/{self.user_id(login)}/sessions")
        return found

    def sign_out_session(self, sid: str, *, offline: bool = False) -> None:
        """The administrator's "Sign out" of one session, or the revocation of an offline one.
        Returns when every client has been notified."""
        self.admin("DELETE", f"/sessions/{sid}?isOffline={str(offline).lower()}")

    def sign_out_user(self, login: str) -> None:
        """The administrator's "Sign out" of a user. Returns when every client has been notified."""
        self.admin("POST", f"/users/{self.user_id(login)}/logout")

    def rotate_key(self) -> None:
        """Sign with a new key, and stop publishing the previous one."""
        found = self.admin("GET", f"/components?type={KEY_PROVIDER}")
        [before] = [key for key in found if key["providerId"] == "rsa"]
        after = _signing_key() | {"providerType": KEY_PROVIDER, "parentId": before["parentId"]}
        self.admin("POST", "/components", after)
        self.admin("DELETE", f"/components/{before['id']}")
