"""express-openid-connect on Node, from npm (`bench/peers`), with its sessions in Redis.

It remembers a logout under the ``sid`` and under the ``sub``, and looks for no session.
"""

import functools
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.servers import NotMeasured, Server, Stage, free_port
from bench.tokens import CLIENT_ID, Token
from tests.support.redis_server import RedisServer

PEERS = Path(__file__).parents[1] / "peers"
PATH = "/backchannel-logout"


@contextmanager
def running(stage: Stage) -> Iterator[Server]:
    """Raises `NotMeasured` without Node or the packages."""
    node = shutil.which("node")
    if node is None:
        raise NotMeasured("no node on the PATH")
    if not (PEERS / "node_modules/express-openid-connect").is_dir():
        raise NotMeasured("its packages are not installed (`make bench` asks npm for them)")
    port = free_port()
    with stage.redis("express") as redis:
        environ = {
            "NODE_ENV": "production",
            "PORT": str(port),
            "REDIS_URL": redis.url,
            "ISSUER": stage.provider.issuer,
            "CLIENT_ID": CLIENT_ID,
        }
        command = [node, str(PEERS / "express.mjs")]
        with stage.process("express", port, command, environ=environ) as pid:
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
    """Whether a logout is kept for each ``sid`` and each ``sub``."""
    keys = [f"sess:{one.iss}|{name}" for one in tokens for name in (one.sid, one.sub)]
    with redis.client() as client:
        return int(client.exists(*keys)) == len(keys)
