"""A Redis whose users have exactly the rights in the contract."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from tests.support.receiver import ROOT
from tests.support.servers.redis_server import RedisServer

CONTRACT = (ROOT / "docs/contract.md").read_text()


@contextlib.contextmanager
def documented_rights(
    tmp_path: Path, rules: str, other: str = "news", *, console: bool = False
) -> Iterator[tuple[str, Any]]:
    """The URL of a receiver's user for ``shop`` and ``other``, and an administrator's client. With
    ``console`` it also has the rights for the console's guard of the app ``other``.

    ``rules`` names the block of the page. At the end, no command of the receiver was denied. With
    Redis 6.2's rules it cannot read the apps' own keys, so this is not checked.
    """
    block = re.search(rf"```{re.escape(rules)}\n(.*?)```", CONTRACT, re.DOTALL)
    assert block is not None
    users = tmp_path / "users.acl"
    text = block[1].replace("wiki", other)
    if rules == "acl-6.2":
        # The rights for the API, which the page gives in parentheses.
        (api,) = re.findall(r"\((~bcl:v1:ending:\*.*?)\)", CONTRACT)
        text = re.sub(r"(?m)^(user receiver .*)$", rf"\1 {api}", text)
    if console:
        (own,) = re.findall(r"The console with `\[admin_oidc\]`.*?`(\(.*?\))`", CONTRACT, re.DOTALL)
        own = " ".join(own.split()).replace("console", other)
        text = re.sub(r"(?m)^(user receiver .*)$", rf"\1 {own}", text)
    users.write_text(text)
    server = RedisServer(tmp_path / "redis", "--aclfile", str(users)).start()
    look = redis.Redis(
        port=server.port, username="admin", password="ADMIN-PASSWORD", decode_responses=True
    )
    try:
        yield f"redis://receiver:RECEIVER-PASSWORD@127.0.0.1:{server.port}/0", look
        denied = [entry for entry in look.acl_log() if entry["username"] == "receiver"]
        if rules == "acl":
            assert denied == []
    finally:
        look.close()
        server.stop()
