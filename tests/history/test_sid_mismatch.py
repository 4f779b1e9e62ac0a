"""A provider with ``sid`` only in its logout tokens: no session of the app has one."""

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


class MismatchSetup:
    """An app whose guard checks sessions."""

    def __init__(self, shelf: Shelf, url: str) -> None:
        self.shelf, self.url = shelf, url
        self.link = RedisTopology(connect(url))

    def check_sessions(self, *sessions: Session) -> None:
        with SessionGuard(self.url, app=self.shelf.app) as guard:
            guard.which_revoked(sessions)

    async def overview(self, both_claims: str = "session", iss: str = ISS) -> AppOverview:
        client = {"client_id": "c", "app": self.shelf.app, "both_claims": both_claims}
        issuers: list[Any] = [{"issuer": iss, "clients": [client]}]
        settings = Settings.model_validate({"redis_url": self.url, "issuers": issuers})
        (overview,) = await History(settings, self.link).overviews()
        return overview


@pytest.fixture
async def setup(shelf: Shelf, shared_redis: RedisServer) -> AsyncIterator[MismatchSetup]:
    setup = MismatchSetup(shelf, shared_redis.url)
    yield setup
    await setup.link.aclose()


WITHOUT = Session(ISS, LOGIN, sub="alice")
WITH = Session(ISS, LOGIN, sid="s9", sub="alice")


async def test_an_issuer_is_named_if_its_tokens_have_sid_and_sub_and_no_session_has_a_sid(
    setup: MismatchSetup,
) -> None:
    setup.check_sessions(WITHOUT)
    assert (await setup.overview()).without_sid == (), "no token has come"
    await setup.shelf.write()
    assert (await setup.overview()).without_sid == (ISS,)


async def test_the_setting_fixes_it(setup: MismatchSetup) -> None:
    setup.check_sessions(WITHOUT)
    await setup.shelf.write()
    assert (await setup.overview(both_claims="user")).without_sid == ()


QUIET: dict[str, tuple[list[Session], dict[str, object]]] = {
    "sessions with a sid": ([WITH], {}),
    "some with a sid": ([WITHOUT, WITH], {}),
    "tokens without a sub": ([WITHOUT], {"sub": None}),
    "tokens without a sid": ([WITHOUT], {"kind": EventKind.USER, "sid": None}),
    "an administrator's": ([WITHOUT], {"source": "admin"}),
    "sessions of another issuer": ([Session("https://other", LOGIN, sub="a")], {}),
    "no check": ([], {}),
}


@pytest.mark.parametrize(("sessions", "changes"), QUIET.values(), ids=QUIET)
async def test_nothing_is_reported_for(
    sessions: list[Session], changes: dict[str, object], setup: MismatchSetup
) -> None:
    if sessions:
        setup.check_sessions(*sessions)
    await setup.shelf.write(once=None, **changes)
    assert (await setup.overview()).without_sid == ()


async def test_a_report_about_an_unconfigured_issuer_is_not_repeated(setup: MismatchSetup) -> None:
    """A writer of reports must not choose what an operator reads."""
    setup.check_sessions(WITHOUT)
    await setup.shelf.write()
    assert (await setup.overview(iss="https://ours.example")).without_sid == ()
