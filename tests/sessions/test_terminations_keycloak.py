"""Endings at Keycloak, where refresh tokens may outlive a session under the same id."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.sessions.termination.record import Phase
from tests.sessions.termination_fixture import Scene, running
from tests.support.keycloak_api import KeycloakApi
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.slow

ALICE = "aaaaaaaa-0000-4000-8000-000000000001"


@pytest.fixture
async def scene(shared_redis: RedisServer, tmp_path: Path) -> AsyncIterator[Scene]:
    with KeycloakApi() as api:
        async with running(Scene(api, shared_redis, tmp_path), give_up=5.0) as scene:
            yield scene


async def test_a_session_is_gone_although_its_refresh_tokens_were_to_be_spared(
    scene: Scene,
) -> None:
    session = scene.api.add(ALICE)
    scene.api.add(ALICE, session, offline=True)
    over = await scene.over(await scene.begin(session))
    assert over.phase is Phase.CONFIRMED
    assert (set(scene.api.sessions), set(scene.api.offline)) == (set(), {session})


async def test_a_session_of_refresh_tokens_alone_is_never_called_gone_while_it_lives(
    scene: Scene,
) -> None:
    session, neighbour = scene.api.add(ALICE, offline=True), scene.api.add(ALICE, offline=True)
    await scene.over(await scene.begin(session))
    assert set(scene.api.offline) == {neighbour}


async def test_a_session_that_is_too_old_by_our_reckoning_alone_is_not_gone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The realm may allow more than we may see, and clocks differ."""
    session = scene.api.add(ALICE, start=1000, lastAccess=1000)
    real = scene.api._kind
    monkeypatch.setattr(scene.api, "_kind", lambda offline: dict(real(offline)))  # ends nothing
    over = await scene.over(await scene.begin(session), Phase.UNCONFIRMED)
    assert over.gone_at is None
    assert scene.events(scene.shop) == []
