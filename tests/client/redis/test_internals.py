"""Private members of redis-py: one file uses them, and the installed release has them."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from backchannel_logout.redis import internals
from tests.support.receiver import ROOT
from tests.support.servers.redis_server import RedisServer

FILE = Path(internals.__file__)

OUR_OWN = {"_received"}


def private_members() -> set[str]:
    """The underscored attributes in the file."""
    tree = ast.parse(FILE.read_text("utf-8"))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return {name for name in names if re.match("_[a-z]", name)} - OUR_OWN


@pytest.fixture
async def owners(shared_redis: RedisServer) -> Any:
    """Connected objects of redis-py, one of each class whose private members are used."""
    with shared_redis.client() as threads:
        async with redis.asyncio.Redis.from_url(shared_redis.url) as client:
            pool = client.connection_pool
            connection: Any = await internals.connection_of(pool)
            parser = connection._parser if hasattr(connection, "_parser") else None
            yield [connection, parser, pool, threads.connection_pool]
            await pool.release(connection)


@pytest.mark.parametrize("name", sorted(private_members()))
async def test_the_installed_release_has_each_private_member(name: str, owners: Any) -> None:
    assert any(hasattr(owner, name) for owner in owners), (
        f"redis-py {redis.__version__} has no member {name!r} where earlier releases have it. "
        f"Adapt {FILE.relative_to(ROOT)}, which is the only file that uses it, run "
        "tests/client/redis/test_redis_py.py with each release, and only then raise the bounds of "
        "redis in pyproject.toml and clients/python/pyproject.toml."
    )


def modules() -> Iterator[Path]:
    for root in (ROOT / "app", ROOT / "clients/python/backchannel_logout"):
        yield from (path for path in root.rglob("*.py") if path != FILE)


def test_no_other_module_uses_a_private_member_of_redis_py() -> None:
    members = private_members()
    uses = []
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("redis._"):
                uses.append((path.name, node.lineno))
            if isinstance(node, ast.Attribute) and node.attr in members:
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                uses += [] if own else [(path.name, node.lineno)]
    assert uses == []


def test_the_receiver_accepts_one_minor_version_of_redis_py() -> None:
    """A minor release may move private members."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    [bound] = [one for one in project["dependencies"] if one.startswith("redis>")]
    matched = re.fullmatch(r"redis>=(\d+)\.(\d+),<(\d+)\.(\d+)", bound)
    assert matched is not None, bound
    major, minor, end_major, end_minor = map(int, matched.groups())
    assert (end_major, end_minor) == (major, minor + 1)
    assert redis.__version__.startswith(f"{major}.{minor}.")
