"""mod_auth_openidc in Apache, from Debian's packages, with its sessions in Redis.

It looks a session up under the token's ``sid`` and removes it, so each token's session must exist.
One user really signs in; the module's data for that session is copied for each token, under the
keys that the module itself would use. That requires an unencrypted cache, which saves the module
work, and so does the disabled access log.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlsplit

import httpx

from bench.servers import NotMeasured, Rig, Server, free_port
from bench.servers.debian import environment, find
from bench.tokens import CLIENT_ID, USERS, Token
from tests.support.providers.provider import ABSENT, Provider
from tests.support.servers.redis_server import RedisServer

_MODULES = (
    "mpm_event", "authn_core", "authz_core", "authz_user", "auth_openidc",
)  # fmt: skip

# The event MPM. Debian's 25 threads for each process are fewer than the load's connections, and if
# all threads are busy, or too many are idle, it closes persistent connections.
_CONFIG = """\
ServerRoot {directory}
DefaultRuntimeDir {directory}
PidFile {directory}/pid
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
ErrorLog {directory}/error.log
LogLevel error
{user}
{modules}
StartServers 2
ThreadsPerChild 64
MaxSpareThreads 128
MaxRequestWorkers 128
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 75
DocumentRoot {directory}
OIDCProviderMetadataURL {issuer}/.well-known/openid-configuration
OIDCProviderBackChannelLogoutSupported On
OIDCClientID {client_id}
OIDCClientSecret unused
OIDCResponseType id_token
OIDCResponseMode form_post
OIDCRedirectURI http://127.0.0.1:{port}/callback
OIDCCryptoPassphrase {secret}
OIDCSessionType server-cache
OIDCCacheType redis
OIDCCacheEncrypt Off
OIDCRedisCacheServer 127.0.0.1:{redis_port}
<Location />
  AuthType openid-connect
  Require valid-user
</Location>
"""


@contextmanager
def running(rig: Rig) -> Iterator[Server]:
    """Raises `NotMeasured` without the packages."""
    apache = find("usr/sbin/apache2")
    modules = {name: find(f"usr/lib/apache2/modules/mod_{name}.so") for name in _MODULES}
    if apache is None or None in modules.values():
        raise NotMeasured("Debian's packages are missing (`make bench` gets them with apt-get)")
    directory, port = rig.directory / "apache", free_port()
    directory.mkdir()
    with rig.redis("apache") as redis:
        (directory / "apache.conf").write_text(
            _CONFIG.format(
                directory=directory,
                port=port,
                user="User nobody\nGroup nogroup" if os.geteuid() == 0 else "",
                modules="\n".join(f"LoadModule {n}_module {path}" for n, path in modules.items()),
                issuer=rig.provider.issuer,
                client_id=CLIENT_ID,
                secret=secrets.token_hex(16),
                redis_port=redis.port,
            )
        )
        command = [apache, "-DFOREGROUND", "-f", str(directory / "apache.conf")]
        with rig.process("apache", port, command, environ=environment()) as pid:
            sessions = _Sessions(redis, _sign_in(rig.provider, port))
            yield Server(
                "mod_auth_openidc",
                port,
                "/callback?logout=backchannel",
                pid,
                redis=redis,
                prepare=sessions.begin,
                ended=sessions.ended,
            )


class _Sessions:
    """Sessions in the module's format: ``d:<sid>@<iss>`` has the name of one, ``s:<name>`` the
    session itself. ``sid`` is a session of a real sign-in."""

    def __init__(self, redis: RedisServer, sid: str) -> None:
        self._redis = redis
        with redis.client() as client:
            (pointer,) = client.keys(f"d:{sid}@*")
            self._name = client.get(pointer)
            self._session = client.get(f"s:{self._name}")
            self._life = client.ttl(pointer)
        self._sid = sid
        self._pointer = pointer

    def begin(self, tokens: Sequence[Token]) -> None:
        """Creates a session for each token."""
        with self._redis.client() as client:
            pipeline = client.pipeline(transaction=False)
            for token in tokens:
                name = secrets.token_urlsafe(20)
                session = self._session.replace(self._name, name).replace(self._sid, token.sid)
                pipeline.setex(self._pointer.replace(self._sid, token.sid), self._life, name)
                pipeline.setex(f"s:{name}", self._life, session)
            pipeline.execute()

    def ended(self, tokens: Sequence[Token]) -> bool:
        """Whether none of these sessions exists, and only the first one is left."""
        pointers = [self._pointer.replace(self._sid, token.sid) for token in tokens]
        with self._redis.client() as client:
            left = client.keys("s:*")
            return int(client.exists(*pointers)) == 0 and left == [f"s:{self._name}"]


def _sign_in(provider: Provider, port: int) -> str:
    """Signs one user in; returns the ``sid`` of the new session."""
    origin = f"http://127.0.0.1:{port}"
    sid, sub = secrets.token_urlsafe(24), USERS + secrets.token_hex(12)
    with httpx.Client(timeout=10, trust_env=False) as browser:
        redirect = browser.get(f"{origin}/")
        parameters = dict(parse_qsl(urlsplit(redirect.headers["location"]).query))
        id_token = provider.token(
            header={"typ": "JWT"}, sid=sid, sub=sub, nonce=parameters["nonce"], events=ABSENT
        )
        form = {"state": parameters["state"], "id_token": id_token}
        response = browser.post(f"{origin}/callback", data=form)
    if response.status_code != 302:
        raise RuntimeError(f"the sign-in ended with {response.status_code}: {response.text}")
    return sid
