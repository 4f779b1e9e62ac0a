"""The adapter with a real Ory Kratos: its responses are as the stand-in assumes."""

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.config.issuers import IssuerSettings
from app.sessions.bulk import list_all
from app.sessions.lifecycle import has_ended, is_active
from app.sessions.providers.factory import kratos_whoami, session_provider
from app.sessions.providers.kratos_whoami import KratosCredential, KratosWhoami
from app.sessions.session_provider import FaultKind, ProviderFault, SessionProvider
from app.tokens.fetch import new_client
from tests.interop import kratos, kratos_dist
from tests.interop.kratos import Kratos, LoggedIn
from tests.sessions.provider_fixtures import NOBODY, tls
from tests.support.receiver import Receiver, wait_for
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.interop


@dataclass
class KratosSetup:
    server: Kratos
    adapter: SessionProvider
    whoami: KratosWhoami


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kratos]:
    if why := kratos_dist.missing():
        pytest.skip(why)
    with kratos.running(tmp_path_factory.mktemp("kratos")) as running:
        yield running


@pytest.fixture
async def setup(server: Kratos) -> AsyncIterator[KratosSetup]:
    issuer = IssuerSettings.model_validate(
        {
            "issuer": server.public_url,
            "clients": [{"client_id": "shop", "app": "shop"}],
            "sessions": {
                "kind": "kratos",
                "admin_url": server.admin_url,
                "public_url": server.public_url,
            },
        }
    )
    async with new_client(tls()) as client:
        adapter, whoami = session_provider(issuer, client), kratos_whoami(issuer, client)
        assert adapter is not None
        assert whoami is not None
        yield KratosSetup(server, adapter, whoami)


def of(session: LoggedIn) -> KratosCredential:
    return KratosCredential(session_token=session.token)


async def test_a_session_is_listed_and_read_with_what_kratos_knows(setup: KratosSetup) -> None:
    user, neighbour = setup.server.new_user(), setup.server.new_user()
    one = setup.server.log_in(user, "Phone/7")
    setup.server.log_in(neighbour)
    (listed,) = await list_all(setup.adapter, user)
    read = await setup.adapter.read(one.id)
    assert read == listed
    assert (read.id, read.user_id, read.issuer) == (one.id, user, setup.server.public_url)
    assert read.first_device.user_agent == "Phone/7"
    assert read.methods == ("password",)
    assert is_active(read, time.time())
    assert read.authenticated_at is not None
    assert read.expires_at is not None
    assert abs(read.authenticated_at - time.time()) < 120
    assert read.expires_at - read.authenticated_at == pytest.approx(86400, abs=5)


async def test_a_session_is_deactivated_and_its_neighbours_survive(setup: KratosSetup) -> None:
    user = setup.server.new_user()
    one, other = setup.server.log_in(user), setup.server.log_in(user)
    assert await setup.adapter.end(one.id)
    left = await setup.adapter.read(one.id)
    assert left is not None
    assert has_ended(left, refresh_tokens=False)
    with pytest.raises(ProviderFault) as caught:
        await setup.whoami.session(of(one))
    assert caught.value.kind is FaultKind.UNAUTHORIZED
    assert (await setup.whoami.session(of(other))).id == other.id
    assert [session.id for session in await list_all(setup.adapter, user)] == [other.id]
    assert await setup.adapter.end(one.id)  # a repetition changes nothing


async def test_kratos_itself_reports_unknown_sessions_and_users(setup: KratosSetup) -> None:
    assert await setup.adapter.read(NOBODY) is None
    assert not await setup.adapter.end(NOBODY)
    assert await list_all(setup.adapter, NOBODY) == ()
    assert await setup.adapter.end_all(NOBODY) == ()


async def test_the_public_api_in_place_of_the_admin_api_is_a_fault_and_not_gone(
    server: Kratos,
) -> None:
    wrong = IssuerSettings.model_validate(
        {
            "issuer": server.public_url,
            "clients": [{"client_id": "shop"}],
            "sessions": {"kind": "kratos", "admin_url": server.public_url},
        }
    )
    one = server.log_in(server.new_user())
    async with new_client(tls()) as client:
        adapter = session_provider(wrong, client)
        assert adapter is not None
        for act in (adapter.read(one.id), adapter.end(one.id)):
            with pytest.raises(ProviderFault) as caught:
                await act
            assert caught.value.kind in (FaultKind.UNEXPECTED, FaultKind.FORBIDDEN)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
async def test_all_sessions_of_a_user_are_deleted_over_several_pages(
    setup: KratosSetup, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.providers.kratos.PAGE_SIZE", 2)
    user, neighbour = setup.server.new_user(), setup.server.new_user()
    mine = {setup.server.log_in(user).id for _ in range(number)}
    theirs = setup.server.log_in(neighbour)
    assert {session.id for session in await setup.adapter.end_all(user)} == mine
    assert [await setup.adapter.read(session_id) for session_id in mine] == [None] * number
    assert (await setup.whoami.session(of(theirs))).id == theirs.id


async def test_all_sessions_but_one_are_deactivated(setup: KratosSetup) -> None:
    user = setup.server.new_user()
    keep, other = setup.server.log_in(user), setup.server.log_in(user)
    assert await setup.adapter.end(other.id)
    assert [session.id for session in await list_all(setup.adapter, user)] == [keep.id]


def sent_by_app(session: LoggedIn) -> dict[str, str]:
    return {"X-Session-Token": session.token}


def sent_by_browser(session: LoggedIn) -> dict[str, str]:
    return {"Cookie": f"ory_kratos_session={session.token}", "Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize(
    ("log_in", "sent"),
    [(Kratos.log_in, sent_by_app), (Kratos.log_in_with_browser, sent_by_browser)],
    ids=["session token", "cookie"],
)
def test_users_list_and_end_their_own_sessions_by_their_kratos_credential(
    server: Kratos,
    tmp_path: Path,
    shared_redis: RedisServer,
    log_in: Callable[[Kratos, str], LoggedIn],
    sent: Callable[[LoggedIn], dict[str, str]],
) -> None:
    user, neighbour = server.new_user(), server.new_user()
    here, there, third = (log_in(server, user) for _ in range(3))
    theirs = log_in(server, neighbour)
    receiver = Receiver(tmp_path, account_settings(server, shared_redis.url)).start()
    try:
        found = re.search(r"users' own sessions:\s+(http://\S+)/account", receiver.log)
        assert found

        def request(method: str, path: str = "", by: LoggedIn = here) -> httpx.Response:
            url = f"{found[1]}/account/sessions{path}"
            return receiver.http.request(method, url, headers=sent(by))

        listed = request("GET").json()
        assert {session["id"] for session in listed} == {here.id, there.id, third.id}
        assert [session["id"] for session in listed if session["current"]] == [here.id]
        assert request("DELETE", f"/{theirs.id}").status_code == 404
        assert request("DELETE", f"/{there.id}").status_code == 200
        wait_for(lambda: request("GET", by=there).status_code == 401, "there has ended", receiver)
        answer = request("DELETE").json()
        assert [session["id"] for session in answer["sessions"]] == [third.id]
        with shared_redis.client() as redis:
            wait_for(
                lambda: (
                    {there.id, third.id}
                    <= {fields.get("sid") for _, fields in redis.xrange("bcl:v1:{shop}:events")}
                ),
                "the app has both events", receiver,
            )  # fmt: skip
        assert [session["id"] for session in request("GET").json()] == [here.id]
        assert [session["id"] for session in request("GET", by=theirs).json()] == [theirs.id]
        for session in (here, there, third, theirs):
            assert session.token not in receiver.log
    finally:
        receiver.stop()


def account_settings(server: Kratos, redis_url: str) -> str:
    return f'''
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
account_listen = "127.0.0.1:0"
redis_url = "{redis_url}"
journal = "off"
[[issuers]]
issuer = "{server.public_url}"
clients = [{{app = "shop"}}]
[issuers.sessions]
kind = "kratos"
admin_url = "{server.admin_url}"
public_url = "{server.public_url}"
'''
