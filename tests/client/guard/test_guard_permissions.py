"""The permissions in Redis that a guard needs, and those that it lacks."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from backchannel_logout import (
    AppKeys,
    GuardMisconfigured,
)
from tests.client.guard.guard_fixture import (
    ALICE,
    NewGuard,
    serve_app,
)
from tests.support.servers.redis_server import RedisServer


@pytest.fixture
def acl_server(tmp_path: Path, app: str) -> Iterator[RedisServer]:
    """Only the user `guard` has permissions: it may read the markers of its app."""
    server = RedisServer(tmp_path / "acl").start()
    serve_app(server, app).close()
    with server.client() as client:
        for name, rules in {
            "admin": (">root", "~*", "&*", "+@all"),
            "guard": (">sesame", f"%R~bcl:v1:{{{app}}}:*", "+mget", "+hget"),
            "nobody": (">sesame",),
        }.items():
            client.execute_command("ACL", "SETUSER", name, "reset", "on", *rules)
        client.execute_command("ACL", "SETUSER", "default", "reset", "off")
    yield server
    server.stop(signal.SIGKILL)


def test_permission_to_read_the_apps_keys_is_enough(
    new_guard: NewGuard, acl_server: RedisServer
) -> None:
    url = acl_server.url.replace("//", "//guard:sesame@")
    assert new_guard(url).is_revoked(ALICE) is False


@pytest.mark.parametrize("user", ["", "guard:wrong@", "nobody:sesame@"])
def test_refused_credentials_are_a_mistake_in_both_modes(
    user: str, new_guard: NewGuard, acl_server: RedisServer
) -> None:
    """A mistyped password must not make every session alive."""
    for on_outage in ("deny", "allow"):
        guard = new_guard(acl_server.url.replace("//", "//" + user), on_outage=on_outage)
        with pytest.raises(GuardMisconfigured) as caught:
            guard.is_revoked(ALICE)
        assert "sesame" not in str(caught.value)
        assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("fault", ["a database that is not there", "a meta of another type"])
def test_a_wrong_setting_is_no_outage_in_either_mode(
    fault: str, new_guard: NewGuard, app: str, shared_redis: RedisServer
) -> None:
    """It stays until someone acts: with `allow` every session would live until then."""
    url = shared_redis.url
    if fault == "a database that is not there":
        url = url.removesuffix("/0") + "/99"
    else:
        with shared_redis.client() as client:
            client.delete(AppKeys(app).meta)
            client.set(AppKeys(app).meta, "x")
    for on_outage in ("deny", "allow"):
        with pytest.raises(GuardMisconfigured):
            new_guard(url, on_outage=on_outage).is_revoked(ALICE)


def test_the_keys_of_another_app_are_refused(new_guard: NewGuard, acl_server: RedisServer) -> None:
    url = acl_server.url.replace("//", "//guard:sesame@")
    with pytest.raises(GuardMisconfigured):
        new_guard(url, app="another").is_revoked(ALICE)
