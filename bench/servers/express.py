"""express-openid-connect on Node, from npm (`bench/peers`), with its sessions in Redis.

It stores a logout under the ``sid`` and under the ``sub``, without looking up a session.
"""

import functools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.servers import NotMeasured, Rig, Server, free_port
from bench.tokens import CLIENT_ID, Token
from tests.support.servers.redis_server import RedisServer

PEERS = Path(__file__).parents[1] / "peers"
PATH = "/backchannel-logout"


@contextmanager
def running(rig: Rig) -> Iterator[Server]:
    """Raises `NotMeasured` without Node or the packages."""
    node = shutil.which("node")
    if node is None:
        raise NotMeasured("no node on the PATH")
    if not (PEERS / "node_modules/express-openid-connect").is_dir():
        raise NotMeasured("its packages are missing (`make bench` gets them from npm)")
    port = free_port()
    with rig.redis("express") as redis:
        environ = {
            "NODE_ENV": "production",
            "PORT": str(port),
            "REDIS_URL": redis.url,
            "ISSUER": rig.provider.issuer,
            "CLIENT_ID": CLIENT_ID,
        }
        command = [node, str(PEERS / "express.mjs")]
        with rig.process("express", port, command, environ=environ) as pid:
            yield Server(
                "express-openid-connect",
                port,
                PATH,
                pid,
                success=204,
                redis=redis,
                ended=functools.partial(_ended, redis),
            )


def _ended(redis: RedisServer, tokens: Sequence[Token]) -> bool:
    """Whether a logout is stored for each ``sid`` and each ``sub``."""
    keys = [f"sess:{token.iss}|{name}" for token in tokens for name in (token.sid, token.sub)]
    with redis.client() as client:
        return int(client.exists(*keys)) == len(keys)
