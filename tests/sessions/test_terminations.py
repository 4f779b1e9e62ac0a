"""A session is ended at its provider, and followed until every app has let go.

The neighbour survives in each of them: a second session of the same user.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.background import end
from app.history import Unreadable
from app.sessions.termination.record import Phase, termination_id
from app.sessions.termination.report import explanation
from backchannel_logout import AppKeys, EventKind
from tests.sessions.termination_fixture import (
    ALICE,
    ALICE_OF_KRATOS,
    Scene,
    a_session,
    running,
)
from tests.support.api_server import Response
from tests.support.auth0_api import Auth0Api, limited, stamp
from tests.support.auth0_api import fault as auth0_fault
from tests.support.keycloak_api import KeycloakApi
from tests.support.kratos_api import KratosApi
from tests.support.redis_server import RedisServer


@pytest.fixture
async def scene(shared_redis: RedisServer, tmp_path: Path) -> AsyncIterator[Scene]:
    with Auth0Api() as api:
        async with running(Scene(api, shared_redis, tmp_path)) as scene:
            yield scene


def untouched(scene: Scene, session_id: str) -> bool:
    return scene.marker(scene.shop, session_id) is None and session_id in scene.api.alive()


async def test_a_session_whose_logout_tokens_come_is_confirmed(scene: Scene) -> None:
    session, neighbour = scene.api.add(ALICE), scene.api.add(ALICE)
    ending = await scene.begin(session)
    assert ending.phase is Phase.BEGUN
    await scene.send_token(scene.shop, session)
    await scene.send_token(scene.news, session)
    over = await scene.over(ending)
    assert {one.source for one in over.deliveries.values()} == {"backchannel-logout"}
    assert ending.began_at <= over.asked_at <= over.gone_at <= over.over_at
    assert over.received_at is not None
    assert over.apps_written_by_us == ()
    assert untouched(scene, neighbour)


@pytest.mark.slow
async def test_without_a_token_the_receiver_tells_the_apps_once_the_provider_has_confirmed(
    scene: Scene,
) -> None:
    session, neighbour = scene.api.add(ALICE), scene.api.add(ALICE)
    before = int(time.time())
    ending = await scene.begin(session, who="ada", why="stolen")
    await scene.send_token(scene.shop, session)  # of two apps, one is told by the provider
    over = await scene.over(ending)
    assert over.apps_written_by_us == (scene.news,)
    (event,) = scene.events(scene.news)
    assert (event.source, event.kind, event.sid, event.sub) == (
        "auth0", EventKind.SESSION, session, ALICE,
    )  # fmt: skip
    assert before <= event.cutoff <= time.time()
    assert over.deliveries[scene.news].event == event.id
    assert over.asked_at + 0.3 <= over.deliveries[scene.news].at
    assert (over.who, over.why) == ("ada", "stolen")
    assert untouched(scene, neighbour)


@pytest.mark.slow
async def test_kratos_sends_no_tokens_so_the_apps_are_told_at_once(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    with KratosApi() as api:
        async with running(Scene(api, shared_redis, tmp_path), confirm_within=3600) as scene:
            session = api.add(ALICE_OF_KRATOS)
            neighbour = api.add(ALICE_OF_KRATOS)
            over = await scene.over(await scene.begin(session))
            assert over.apps_written_by_us == over.apps == tuple(sorted((scene.shop, scene.news)))
            assert {event.source for event in scene.events(scene.shop)} == {"kratos"}
            assert untouched(scene, neighbour)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (auth0_fault(401, "Unauthorized", "Invalid token"), "unauthorized"),
        (auth0_fault(403, "Forbidden", "Insufficient scope"), "forbidden"),
        (limited(3600), "limited"),
        (auth0_fault(500, "Internal Server Error", "oops"), "unavailable"),
        (Response(502, b"<html>"), "unavailable"),
        (Response(404, b"<html>nothing here"), "unexpected"),
        (Response(200, {"id": "another", "user_id": ALICE}), "unexpected"),
        ("cut", "unavailable"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_no_fault_of_the_provider_is_taken_for_gone(
    shared_redis: RedisServer, tmp_path: Path, fault: Response | str, word: str
) -> None:
    with Auth0Api() as api:
        async with running(Scene(api, shared_redis, tmp_path), give_up=1.5) as scene:
            session = api.add(ALICE)
            api.lag = 3600  # taken, and not carried out
            ending = await scene.begin(session)
            await scene.until(ending, lambda one: one.asked_at is not None)
            with api.lock:
                api.faults.extend([fault] * 100)
            over = await scene.over(ending, Phase.UNCONFIRMED)
            assert over.gone_at is None
            assert over.problem is not None
            assert over.problem.what == word
            assert scene.events(scene.shop) == scene.events(scene.news) == []


@pytest.mark.slow
async def test_a_provider_that_goes_on_telling_of_the_session_is_not_believed(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        async with running(Scene(api, shared_redis, tmp_path), give_up=1.5) as scene:
            session = api.add(ALICE)
            api.lag = 3600
            over = await scene.over(await scene.begin(session), Phase.UNCONFIRMED)
            assert over.problem is not None
            assert over.problem.what == "still_there"
            assert scene.marker(scene.shop, session) is None


@pytest.mark.slow
async def test_a_provider_that_is_down_is_asked_again_until_it_answers(scene: Scene) -> None:
    session = scene.api.add(ALICE)
    found = a_session(scene, session)
    scene.api.faults.extend([auth0_fault(503, "Service Unavailable", "")] * 3)
    ending = await scene.endings.begin(scene.provider, found, known_at=time.time())
    troubled = await scene.until(ending, lambda one: one.problem is not None)
    assert troubled.problem is not None
    assert troubled.problem.what == "unavailable"
    over = await scene.over(ending)
    assert over.problem is None
    assert session not in scene.api.alive()


@pytest.mark.slow
async def test_a_provider_that_takes_its_time_is_waited_for(scene: Scene) -> None:
    session = scene.api.add(ALICE)
    scene.api.lag = 1.0
    ending = await scene.begin(session)
    over = await scene.over(ending)
    assert over.gone_at >= over.asked_at + 0.9
    assert over.deliveries[scene.shop].at >= over.gone_at


async def test_ended_twice_it_is_one_ending(scene: Scene) -> None:
    session = scene.api.add(ALICE)
    found = a_session(scene, session)
    scene.api.lag = 3600
    one, two = await asyncio.gather(
        scene.endings.begin(scene.provider, found, known_at=time.time(), who="ada"),
        scene.endings.begin(scene.provider, found, known_at=time.time(), who="bob"),
    )
    await scene.until(one, lambda ending: ending.asked_at is not None)
    assert one.began_at == two.began_at
    assert one.who == two.who
    assert len(scene.api.paths("DELETE")) == 1


@pytest.mark.slow
async def test_who_comes_when_another_s_end_is_already_through_gets_that_one(scene: Scene) -> None:
    session, known_at = scene.api.add(ALICE), time.time()
    found = a_session(scene, session)
    over = await scene.over(await scene.begin(session, who="ada"))
    late = await scene.endings.begin(scene.provider, found, known_at=known_at, who="bob")
    assert late == over
    assert len(scene.events(scene.shop)) == 1


@pytest.mark.slow
async def test_one_that_is_over_can_be_begun_anew(scene: Scene) -> None:
    session = scene.api.add(ALICE)
    first = await scene.over(await scene.begin(session))
    scene.api.add(ALICE, session)  # under the same id, as Keycloak does
    second = await scene.over(await scene.begin(session))
    assert second.began_at > first.began_at
    assert second.deliveries[scene.shop].event != first.deliveries[scene.shop].event
    assert len(scene.events(scene.shop)) == 2


async def test_a_new_session_under_the_same_id_means_that_the_old_one_is_gone(
    scene: Scene,
) -> None:
    session = scene.api.add(ALICE)
    scene.api.lag = 3600
    ending = await scene.begin(session)
    await scene.until(ending, lambda one: one.asked_at is not None)
    scene.api.sessions[session]["created_at"] = stamp(time.time() + 1)
    gone = await scene.until(ending, lambda one: one.gone_at is not None)
    assert gone.gone_at is not None


@pytest.mark.slow
async def test_a_later_login_under_the_same_id_lives_and_the_one_before_it_is_dead(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    """No token comes, so the receiver writes it itself: seconds after the session was gone."""
    with KeycloakApi() as api:
        async with running(Scene(api, shared_redis, tmp_path), confirm_within=2.5) as scene:
            login_at = int(time.time())
            session = api.add(ALICE_OF_KRATOS, start=login_at * 1000, lastAccess=login_at * 1000)
            ending = await scene.begin(session)
            await scene.until(ending, lambda one: one.gone_at is not None)
            await asyncio.sleep(1.1)
            later = int(time.time())
            api.add(ALICE_OF_KRATOS, session, start=later * 1000, lastAccess=later * 1000)
            over = await scene.over(ending)
            assert over.deliveries[scene.shop].at > later
            assert login_at <= int(scene.marker(scene.shop, session)) < later


@pytest.mark.slow
async def test_a_provider_that_tells_of_a_later_session_of_that_id_says_which_logins_are_dead(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    """It could not be asked before, and its clock is ahead of ours."""
    ahead = int(time.time()) + 20
    with KeycloakApi() as api:
        async with running(Scene(api, shared_redis, tmp_path)) as scene:
            session = api.add(ALICE_OF_KRATOS, start=ahead * 1000, lastAccess=ahead * 1000)
            found = await scene.provider.read(session)
            ending = await scene.begin(session)
            await scene.until(ending, lambda one: one.asked_at is not None)
            api.add(ALICE_OF_KRATOS, session, start=(ahead + 9) * 1000)
            over = await scene.over(ending)
            assert found is not None
            assert over.used_at == found.created_at
            assert ahead <= int(scene.marker(scene.shop, session)) < ahead + 9


@pytest.mark.slow
async def test_a_late_token_of_an_earlier_login_under_the_same_id_is_no_evidence(
    scene: Scene,
) -> None:
    """It ends nothing that logged in after it."""
    now = time.time()
    used = {"created_at": stamp(now - 20), "authenticated_at": stamp(now - 20)}
    session = scene.api.add(ALICE, last_interacted_at=stamp(now - 10), **used)
    ending = await scene.begin(session)
    await scene.send_token(scene.shop, session, since=now - 30)
    await scene.send_token(scene.news, session, since=now - 5)
    over = await scene.over(ending)
    assert over.apps_written_by_us == (scene.shop,)
    assert int(scene.marker(scene.shop, session)) >= int(now)


@pytest.mark.slow
async def test_refresh_tokens_end_as_well_also_where_that_is_asked_for_later(scene: Scene) -> None:
    one, two = scene.api.add(ALICE), scene.api.add(ALICE)
    scene.api.lag = 2.0
    await scene.begin(one, refresh_tokens=True)
    ending = await scene.begin(two)
    await scene.until(ending, lambda found: found.asked_at is not None)
    assert scene.api.refresh_tokens == {two}
    again = await scene.begin(two, refresh_tokens=True)
    assert again.refresh_tokens
    assert scene.api.refresh_tokens == set()
    assert (await scene.over(ending)).refresh_tokens


async def test_only_the_apps_that_the_session_was_used_for_are_concerned(scene: Scene) -> None:
    session = scene.api.add(ALICE, clients=[{"client_id": "shop-web"}, {"client_id": "elsewhere"}])
    ending = await scene.begin(session)
    assert (ending.apps, ending.awaits_token) == ((scene.shop,), True)


async def test_where_none_of_them_is_known_all_apps_are_told_and_no_token_is_waited_for(
    scene: Scene,
) -> None:
    session = scene.api.add(ALICE, clients=[{"client_id": "elsewhere"}])
    ending = await scene.begin(session)
    assert set(ending.apps) == {scene.shop, scene.news}
    assert not ending.awaits_token


@pytest.mark.slow
async def test_what_was_written_before_is_no_evidence(scene: Scene) -> None:
    session = scene.api.add(ALICE)
    await scene.send_token(scene.shop, session)
    ending = await scene.begin(session)
    await scene.send_token(scene.shop, "another-session")
    await scene.send_token(scene.news, session, since=time.time() - 3000)  # of long ago
    over = await scene.over(ending)
    assert set(over.apps_written_by_us) == {scene.shop, scene.news}


async def test_a_logout_of_the_user_is_evidence_too(scene: Scene) -> None:
    session = scene.api.add(ALICE)
    ending = await scene.begin(session)
    for app in (scene.shop, scene.news):
        await scene.send_token(app, "", kind=EventKind.USER, sid=None)
    over = await scene.over(ending)
    assert over.apps_written_by_us == ()


async def test_who_follows_more_than_its_places_takes_over_no_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.termination.terminations.MAX_FOLLOWED", 3)
    scene.api.lag = 600.0
    left = [scene.api.add(ALICE) for _ in range(4)]
    mine = [scene.api.add(ALICE) for _ in range(5)]
    for one in mine:
        await scene.begin(one)
    dying = scene.new_endings()
    dying._follow = lambda _: None  # type: ignore[method-assign]
    for one in left:
        found = await dying.begin(scene.provider, a_session(scene, one), known_at=time.time())
        scene.look.delete(f"bcl:v1:ending:{found.id}:lease")
    await scene.endings._take_over()
    assert set(scene.endings._followed) == {termination_id(scene.issuer, one) for one in mine}


@pytest.mark.slow
async def test_another_process_goes_on_where_one_has_died(scene: Scene) -> None:
    session = scene.api.add(ALICE)
    scene.api.lag = 3.0
    dying = scene.new_endings()
    ending = await dying.begin(scene.provider, a_session(scene, session), known_at=time.time())
    await scene.until(ending, lambda one: one.asked_at is not None)
    # As if it had been killed: nothing is given back, and the lease runs out.
    await end(dying._followed.values())
    assert scene.look.delete(f"bcl:v1:ending:{ending.id}:lease") == 1
    over = await scene.over(ending)
    assert over.began_at == ending.began_at
    assert len(scene.api.paths("DELETE")) == 1
    assert scene.look.sismember("bcl:v1:endings", ending.id) == 0


@pytest.mark.slow
async def test_answers_of_503_in_that_time_are_said_and_earlier_ones_are_not(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        refused = [3.0]
        scene = Scene(api, shared_redis, tmp_path)
        async with running(scene, count_unavailable=lambda: refused[0]):
            before = await scene.over(await scene.begin(api.add(ALICE)))
            assert "initiator" in (explanation(before, 0.3) or "")
            ending = await scene.begin(api.add(ALICE))
            refused[0] += 1
            said = explanation(await scene.over(ending), 0.3) or ""
            assert "503" in said
            assert "initiator" not in said


async def test_two_followers_write_one_event(scene: Scene) -> None:
    """A lease that ran out while Redis was away may be followed twice."""
    session = scene.api.add(ALICE)
    ending = await scene.begin(session)
    scene.endings._follow(ending)
    await scene.over(ending)
    assert len(scene.events(scene.shop)) == 1


async def test_while_redis_is_away_nothing_is_asked_of_the_provider(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        async with running(Scene(api, redis_server, tmp_path)) as scene:
            session = api.add(ALICE)
            redis_server.stop()
            with pytest.raises(Unreadable):
                await scene.begin(session)
            assert api.paths("DELETE") == []


@pytest.mark.slow
async def test_a_redis_that_was_away_for_a_while_holds_it_up_and_no_more(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        async with running(Scene(api, redis_server, tmp_path)) as scene:
            session = api.add(ALICE)
            api.lag = 1.0
            ending = await scene.begin(session)
            await scene.until(ending, lambda one: one.asked_at is not None)
            redis_server.stop()
            await asyncio.sleep(0.5)
            redis_server.start()
            over = await scene.over(ending)
            assert scene.look.get(AppKeys(scene.shop).sid(scene.issuer, session)) is not None
            assert over.hindrance == "redis"
            assert "did not reach Redis" in (explanation(over, 0.3) or "")
