"""A Redis whose users have the rights that the contract's page gives them, and no others."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from tests.support.receiver import ROOT
from tests.support.redis_server import RedisServer

CONTRACT = (ROOT / "docs/contract.md").read_text()


@contextlib.contextmanager
def documented_rights(
    tmp_path: Path, rules: str, other: str = "news", *, console: bool = False
) -> Iterator[tuple[str, Any]]:
    """The URL of a receiver's user for ``shop`` and ``other``, and an administrator's client. With
    ``console`` it has what the page adds for the console's guard of the app ``other``.

    ``rules`` names the block of the page. At the end, nothing that it asked for was denied;
    with Redis 6.2's rules it can not read the apps' own keys.
    """
    found = re.search(rf"```{re.escape(rules)}\n(.*?)```", CONTRACT, re.DOTALL)
    assert found is not None
    users = tmp_path / "users.acl"
    text = found[1].replace("wiki", other)
    if rules == "acl-6.2":
        # As the page says: what the API needs, without the parentheses.
        (api,) = re.findall(r"\((~bcl:v1:ending:\*.*?)\)", CONTRACT)
        text = re.sub(r"(?m)^(user receiver .*)$", rf"\1 {api}", text)
    if console:
        (own,) = re.findall(r"The console with `\[admin_oidc\]`.*?`(\(.*?\))`", CONTRACT, re.DOTALL)
        own = own.replace("console", other)
        text = re.sub(r"(?m)^(user receiver .*)$", rf"\1 {own}", text)
    users.write_text(text)
    server = RedisServer(tmp_path / "redis", "--aclfile", str(users)).start()
    look = redis.Redis(
        port=server.port, username="admin", password="ADMIN-PASSWORD", decode_responses=True
    )
    try:
        yield f"redis://receiver:RECEIVER-PASSWORD@127.0.0.1:{server.port}/0", look
        denied = [one for one in look.acl_log() if one["username"] == "receiver"]
        if rules == "acl":
            assert denied == []
    finally:
        look.close()
        server.stop()
