"""Terminations at Keycloak, where refresh tokens can outlive a session under the same id."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.sessions.termination.termination import Phase
from tests.sessions.termination_fixture import TerminationSetup, running
from tests.support.providers.keycloak_api import KeycloakApi
from tests.support.servers.redis_server import RedisServer

pytestmark = pytest.mark.slow

ALICE = "aaaaaaaa-0000-4000-8000-000000000001"


@pytest.fixture
async def setup(shared_redis: RedisServer, tmp_path: Path) -> AsyncIterator[TerminationSetup]:
    with KeycloakApi() as api:
        async with running(TerminationSetup(api, shared_redis, tmp_path), give_up=5.0) as setup:
            yield setup


async def test_a_session_is_gone_even_if_its_refresh_tokens_were_to_survive(
    setup: TerminationSetup,
) -> None:
    session = setup.api.add(ALICE)
    setup.api.add(ALICE, session, offline=True)
    over = await setup.wait_until_over(await setup.begin(session))
    assert over.phase is Phase.CONFIRMED
    assert (set(setup.api.sessions), set(setup.api.offline)) == (set(), {session})


async def test_an_offline_session_is_never_reported_gone_while_it_lives(
    setup: TerminationSetup,
) -> None:
    session, neighbour = setup.api.add(ALICE, offline=True), setup.api.add(ALICE, offline=True)
    await setup.wait_until_over(await setup.begin(session))
    assert set(setup.api.offline) == {neighbour}


async def test_a_session_too_old_only_by_our_own_estimate_is_not_gone(
    setup: TerminationSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The realm may allow more than the account can read, and clocks differ."""
    session = setup.api.add(ALICE, start=1000, lastAccess=1000)
    real = setup.api._kind
    monkeypatch.setattr(setup.api, "_kind", lambda offline: dict(real(offline)))  # ends nothing
    over = await setup.wait_until_over(await setup.begin(session), Phase.UNCONFIRMED)
    assert over.gone_at is None
    assert setup.events(setup.shop) == []
