"""A provider that names a ``sid`` in its logout tokens alone: no session of the app has one."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.config.model import Settings
from app.history import AppOverview, History
from app.store.topology import RedisTopology, connect
from backchannel_logout import EventKind, Session, SessionGuard
from tests.support.redis_server import RedisServer
from tests.support.revocations import ISS, Shelf

LOGIN = int(time.time()) - 60


class Scene:
    """The shelf's app, with a guard of which sessions are asked about."""

    def __init__(self, shelf: Shelf, url: str) -> None:
        self.shelf, self.url = shelf, url
        self.link = RedisTopology(connect(url))

    def asks(self, *sessions: Session) -> None:
        with SessionGuard(self.url, app=self.shelf.app) as guard:
            guard.which_revoked(sessions)

    async def look(self, both_claims: str = "session", iss: str = ISS) -> AppOverview:
        client = {"client_id": "c", "app": self.shelf.app, "both_claims": both_claims}
        issuers: list[Any] = [{"issuer": iss, "clients": [client]}]
        settings = Settings.model_validate({"redis_url": self.url, "issuers": issuers})
        (found,) = await History(settings, self.link).overviews()
        return found


@pytest.fixture
async def scene(shelf: Shelf, shared_redis: RedisServer) -> AsyncIterator[Scene]:
    one = Scene(shelf, shared_redis.url)
    yield one
    await one.link.aclose()


WITHOUT = Session(ISS, LOGIN, sub="alice")
WITH = Session(ISS, LOGIN, sid="s9", sub="alice")


async def test_it_is_named_where_tokens_have_sid_and_sub_and_no_session_has_one(
    scene: Scene,
) -> None:
    scene.asks(WITHOUT)
    assert (await scene.look()).without_sid == (), "no token has come"
    await scene.shelf.write()
    assert (await scene.look()).without_sid == (ISS,)


async def test_the_setting_mends_it(scene: Scene) -> None:
    scene.asks(WITHOUT)
    await scene.shelf.write()
    assert (await scene.look(both_claims="user")).without_sid == ()


QUIET: dict[str, tuple[list[Session], dict[str, object]]] = {
    "sessions with a sid": ([WITH], {}),
    "some with a sid": ([WITHOUT, WITH], {}),
    "tokens without a sub": ([WITHOUT], {"sub": None}),
    "tokens without a sid": ([WITHOUT], {"kind": EventKind.USER, "sid": None}),
    "an administrator's": ([WITHOUT], {"source": "admin"}),
    "sessions of another issuer": ([Session("https://other", LOGIN, sub="a")], {}),
    "nobody asks": ([], {}),
}


@pytest.mark.parametrize(("sessions", "changes"), QUIET.values(), ids=QUIET)
async def test_nothing_is_said_of(
    sessions: list[Session], changes: dict[str, object], scene: Scene
) -> None:
    if sessions:
        scene.asks(*sessions)
    await scene.shelf.write(once=None, **changes)
    assert (await scene.look()).without_sid == ()


async def test_a_report_of_an_issuer_that_is_not_configured_is_not_repeated(scene: Scene) -> None:
    """Whoever may write the report must not choose what an operator reads."""
    scene.asks(WITHOUT)
    await scene.shelf.write()
    assert (await scene.look(iss="https://ours.example")).without_sid == ()
