"""A provider with ``sid`` only in its logout tokens: no session of the app has one."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.config.model import Settings
from app.history import AppOverview, History
from app.store.topology import RedisTopology, connect
from backchannel_logout import EventKind, Session, SessionGuard
from tests.support.patience import PATIENCE
from tests.support.revocations import ISS, AppStore
from tests.support.servers.redis_server import RedisServer

LOGIN = int(time.time()) - 60


class MismatchSetup:
    """An app whose guard checks sessions."""

    def __init__(self, app_store: AppStore, url: str) -> None:
        self.app_store, self.url = app_store, url
        self.link = RedisTopology(connect(url))

    def check_sessions(self, *sessions: Session) -> None:
        with SessionGuard(self.url, app=self.app_store.app, timeout=PATIENCE) as guard:
            guard.which_revoked(sessions)

    async def overview(self, both_claims: str = "session", iss: str = ISS) -> AppOverview:
        client = {"client_id": "c", "app": self.app_store.app, "both_claims": both_claims}
        issuers: list[Any] = [{"issuer": iss, "clients": [client]}]
        settings = Settings.model_validate({"redis_url": self.url, "issuers": issuers})
        (overview,) = await History(settings, self.link).overviews()
        return overview


@pytest.fixture
async def setup(app_store: AppStore, shared_redis: RedisServer) -> AsyncIterator[MismatchSetup]:
    setup = MismatchSetup(app_store, shared_redis.url)
    yield setup
    await setup.link.aclose()


WITHOUT = Session(ISS, LOGIN, sub="alice")
WITH = Session(ISS, LOGIN, sid="s9", sub="alice")


async def test_an_issuer_is_named_if_its_tokens_have_sid_and_sub_and_no_session_has_a_sid(
    setup: MismatchSetup,
) -> None:
    setup.check_sessions(WITHOUT)
    assert (await setup.overview()).without_sid == (), "no token has come"
    await setup.app_store.write()
    assert (await setup.overview()).without_sid == (ISS,)


async def test_the_setting_fixes_it(setup: MismatchSetup) -> None:
    setup.check_sessions(WITHOUT)
    await setup.app_store.write()
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
    await setup.app_store.write(once=None, **changes)
    assert (await setup.overview()).without_sid == ()


async def test_a_report_about_an_unconfigured_issuer_is_not_repeated(setup: MismatchSetup) -> None:
    """A writer of reports must not choose what an operator reads."""
    setup.check_sessions(WITHOUT)
    await setup.app_store.write()
    assert (await setup.overview(iss="https://ours.example")).without_sid == ()
