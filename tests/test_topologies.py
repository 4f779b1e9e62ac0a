"""The same logout and the same guard's answer with a Cluster and with Sentinels."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backchannel_logout import AsyncSessionGuard, RevocationUnknown, Session, SessionGuard
from backchannel_logout.redis import connection
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, crashes, run_app, wait_for
from tests.support.servers.redis_server import free_port
from tests.support.servers.redis_topologies import Cluster, Sentinels


@contextmanager
def receiving(directory: Path, redis_url: str, provider: Provider) -> Iterator[Receiver]:
    receiver = Receiver(directory, config(redis_url, f'issuer = "{provider.issuer}"')).start()
    try:
        yield receiver
    finally:
        receiver.stop()


def session(provider: Provider, sid: str) -> Session:
    return Session(iss=provider.issuer, sid=sid, sub="alice", login_at=int(time.time()) - 600)


async def wait_for_the_end_of(sid: str, url: str, provider: Provider) -> None:
    """Both guards find this session dead and its neighbour alive."""
    dead, neighbour = session(provider, sid), session(provider, "neighbour")
    with SessionGuard(url, app="shop", timeout=5) as guard:
        for _ in range(2):
            assert guard.which_revoked([neighbour, dead]) == [dead]
    async with AsyncSessionGuard(url, app="shop", timeout=5) as guard:
        for _ in range(2):
            assert await guard.which_revoked([neighbour, dead]) == [dead]


@pytest.mark.slow
async def test_a_cluster(tmp_path: Path, provider: Provider) -> None:
    """Every key of an app is in one slot, so that one script writes them."""
    with Cluster(tmp_path / "redis") as cluster:
        with receiving(tmp_path / "r", cluster.url, provider) as receiver:
            token = provider.token(sid="s1")
            assert [receiver.post(token).status_code for _ in range(2)] == [200, 200]
        await wait_for_the_end_of("s1", cluster.url, provider)
        checked = check(tmp_path, cluster.url, provider)
        assert checked.returncode == 0
        assert checked.stdout.count("append-only file") == 3
        one_node = check(tmp_path, cluster.nodes[0].url, provider)
        assert one_node.returncode == 1
        assert "redis+cluster://" in one_node.stdout
        client = connection.connect(cluster.url, timeout=5)
        assert client.xlen("bcl:v1:{shop}:events") == 1
        with SessionGuard(client, app="shop") as guard:
            assert guard.is_revoked(session(provider, "s1"))
        connection.close(client)


@pytest.mark.slow
async def test_sentinels_and_a_failover(tmp_path: Path, provider: Provider) -> None:
    """After the failover, logouts go to the new primary."""
    with Sentinels(tmp_path / "redis") as sentinels:
        with receiving(tmp_path / "r", sentinels.url, provider) as receiver:
            assert receiver.post(provider.token(sid="s1")).status_code == 200
            await wait_for_the_end_of("s1", sentinels.url, provider)
            assert check(tmp_path, sentinels.url, provider).returncode == 0
            sentinels.fail_over()
            wait_for(
                lambda: receiver.post(provider.token(sid="s2")).status_code == 200,
                "logouts are written again",
                receiver,
            )
        await wait_for_the_end_of("s2", sentinels.url, provider)
        with sentinels.replica.client() as new_primary:
            assert new_primary.role()[0] == "master"
            assert new_primary.xlen("bcl:v1:{shop}:events") >= 2
        client = connection.connect(sentinels.url, timeout=5)
        with SessionGuard(client, app="shop", timeout=5) as guard:
            assert guard.is_revoked(session(provider, "s2"))
        connection.close(client)


def check(directory: Path, url: str, provider: Provider) -> "subprocess.CompletedProcess[str]":
    (directory / "check.toml").write_text(config(url, f'issuer = "{provider.issuer}"'))
    return run_app("check", "--config", "check.toml", cwd=directory)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["redis+cluster://{}", "redis+sentinel://{}/logouts"])
async def test_an_outage_of_all_servers_is_an_outage(
    form: str, tmp_path: Path, provider: Provider
) -> None:
    """Guards and receiver start without them; the answer is that nobody knows. The receiver's
    is 503, or 200 where the journal has it."""
    url = form.format(f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}")
    one = session(provider, "s1")
    with SessionGuard(url, app="shop") as guard, pytest.raises(RevocationUnknown):
        guard.is_revoked(one)
    async with AsyncSessionGuard(url, app="shop") as guard:
        with pytest.raises(RevocationUnknown):
            await guard.is_revoked(one)
    async with AsyncSessionGuard(url, app="shop", on_outage="allow") as guard:
        assert not await guard.is_revoked(one)
    for journal, status in (('journal = "off"', 503), ("", 200)):
        issuer = f'issuer = "{provider.issuer}"'
        receiver = Receiver(tmp_path / "r", config(url, issuer, top=journal))
        try:
            receiver.start(ready=False)
            assert receiver.post(provider.token()).status_code == status
            wait_for(
                lambda ready=receiver.readyz, status=status: ready().status_code == status,
                "readiness is that of the durable place",
                receiver,
            )
            assert receiver.readyz().json()["redis"]["writable"] is False
            assert not crashes(receiver.log)
        finally:
            receiver.stop(signal.SIGKILL)
    checked = check(tmp_path, url, provider)
    assert (checked.returncode, checked.stderr) == (1, "")
    assert "cannot be reached" in checked.stdout
