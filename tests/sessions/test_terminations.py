"""Ending a session at its provider, followed until every app has let go.

The neighbour survives in each of them: a second session of the same user.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.background import end
from app.history import Unreadable
from app.sessions.termination.report import explanation
from app.sessions.termination.termination import Phase, termination_id
from backchannel_logout import AppKeys, EventKind
from tests.sessions.termination_fixture import (
    ALICE,
    ALICE_OF_KRATOS,
    TerminationSetup,
    running,
    unlisted_session,
)
from tests.support.providers.api_server import Response
from tests.support.providers.auth0_api import Auth0Api, limited, stamp
from tests.support.providers.auth0_api import fault as auth0_fault
from tests.support.providers.keycloak_api import KeycloakApi
from tests.support.providers.kratos_api import KratosApi
from tests.support.servers.redis_server import RedisServer


@pytest.fixture
async def setup(shared_redis: RedisServer, tmp_path: Path) -> AsyncIterator[TerminationSetup]:
    with Auth0Api() as api:
        async with running(TerminationSetup(api, shared_redis, tmp_path)) as setup:
            yield setup


def untouched(setup: TerminationSetup, session_id: str) -> bool:
    return setup.marker(setup.shop, session_id) is None and session_id in setup.api.alive()


async def test_a_session_whose_logout_tokens_arrive_is_confirmed(setup: TerminationSetup) -> None:
    session, neighbour = setup.api.add(ALICE), setup.api.add(ALICE)
    termination = await setup.begin(session)
    assert termination.phase is Phase.BEGUN
    await setup.send_token(setup.shop, session)
    await setup.send_token(setup.news, session)
    over = await setup.wait_until_over(termination)
    assert {delivery.source for delivery in over.deliveries.values()} == {"backchannel-logout"}
    assert termination.began_at <= over.asked_at <= over.gone_at <= over.over_at
    assert over.received_at is not None
    assert over.apps_written_by_us == ()
    assert untouched(setup, neighbour)


@pytest.mark.slow
async def test_without_a_token_the_receiver_writes_the_event_once_the_session_is_gone(
    setup: TerminationSetup,
) -> None:
    session, neighbour = setup.api.add(ALICE), setup.api.add(ALICE)
    before = int(time.time())
    termination = await setup.begin(session, who="ada", why="stolen")
    await setup.send_token(setup.shop, session)  # a token for one of two apps
    over = await setup.wait_until_over(termination)
    assert over.apps_written_by_us == (setup.news,)
    (event,) = setup.events(setup.news)
    assert (event.source, event.kind, event.sid, event.sub) == (
        "auth0", EventKind.SESSION, session, ALICE,
    )  # fmt: skip
    assert before <= event.cutoff <= time.time()
    assert over.deliveries[setup.news].event == event.id
    assert over.asked_at + 0.3 <= over.deliveries[setup.news].at
    assert (over.who, over.why) == ("ada", "stolen")
    assert untouched(setup, neighbour)


@pytest.mark.slow
async def test_kratos_sends_no_tokens_so_the_receiver_writes_at_once(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    with KratosApi() as api:
        async with running(
            TerminationSetup(api, shared_redis, tmp_path), confirm_within=3600
        ) as setup:
            session = api.add(ALICE_OF_KRATOS)
            neighbour = api.add(ALICE_OF_KRATOS)
            over = await setup.wait_until_over(await setup.begin(session))
            assert over.apps_written_by_us == over.apps == tuple(sorted((setup.shop, setup.news)))
            assert {event.source for event in setup.events(setup.shop)} == {"kratos"}
            assert untouched(setup, neighbour)


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
        async with running(TerminationSetup(api, shared_redis, tmp_path), give_up=1.5) as setup:
            session = api.add(ALICE)
            api.lag = 3600  # accepted, but not carried out
            termination = await setup.begin(session)
            await setup.until(termination, lambda record: record.asked_at is not None)
            with api.lock:
                api.faults.extend([fault] * 100)
            over = await setup.wait_until_over(termination, Phase.UNCONFIRMED)
            assert over.gone_at is None
            assert over.problem is not None
            assert over.problem.what == word
            assert setup.events(setup.shop) == setup.events(setup.news) == []


@pytest.mark.slow
async def test_a_provider_that_still_reports_the_session_is_not_confirmed(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        async with running(TerminationSetup(api, shared_redis, tmp_path), give_up=1.5) as setup:
            session = api.add(ALICE)
            api.lag = 3600
            over = await setup.wait_until_over(await setup.begin(session), Phase.UNCONFIRMED)
            assert over.problem is not None
            assert over.problem.what == "still_there"
            assert setup.marker(setup.shop, session) is None


@pytest.mark.slow
async def test_a_provider_that_is_down_is_retried_until_it_answers(setup: TerminationSetup) -> None:
    session = setup.api.add(ALICE)
    found = unlisted_session(setup, session)
    setup.api.faults.extend([auth0_fault(503, "Service Unavailable", "")] * 3)
    termination = await setup.terminations.begin(setup.provider, found, known_at=time.time())
    troubled = await setup.until(termination, lambda record: record.problem is not None)
    assert troubled.problem is not None
    assert troubled.problem.what == "unavailable"
    over = await setup.wait_until_over(termination)
    assert over.problem is None
    assert session not in setup.api.alive()


@pytest.mark.slow
async def test_a_slow_provider_is_followed_until_the_session_is_gone(
    setup: TerminationSetup,
) -> None:
    session = setup.api.add(ALICE)
    setup.api.lag = 3600
    termination = await setup.begin(session)
    await setup.until(termination, lambda found: found.asked_at is not None)
    carried_out_at = time.time()
    setup.api.carry_out_all()
    over = await setup.wait_until_over(termination)
    assert over.gone_at >= round(carried_out_at, 3)
    assert over.deliveries[setup.shop].at >= over.gone_at


async def test_ending_a_session_twice_is_one_termination(setup: TerminationSetup) -> None:
    session = setup.api.add(ALICE)
    found = unlisted_session(setup, session)
    setup.api.lag = 3600
    first, second = await asyncio.gather(
        setup.terminations.begin(setup.provider, found, known_at=time.time(), who="ada"),
        setup.terminations.begin(setup.provider, found, known_at=time.time(), who="bob"),
    )
    await setup.until(first, lambda termination: termination.asked_at is not None)
    assert first.began_at == second.began_at
    assert first.who == second.who
    assert len(setup.api.paths("DELETE")) == 1


@pytest.mark.slow
async def test_a_request_joins_a_termination_that_was_just_confirmed(
    setup: TerminationSetup,
) -> None:
    session, known_at = setup.api.add(ALICE), time.time()
    found = unlisted_session(setup, session)
    over = await setup.wait_until_over(await setup.begin(session, who="ada"))
    late = await setup.terminations.begin(setup.provider, found, known_at=known_at, who="bob")
    assert late == over
    assert len(setup.events(setup.shop)) == 1


@pytest.mark.slow
async def test_a_termination_that_is_over_can_begin_again(setup: TerminationSetup) -> None:
    session = setup.api.add(ALICE)
    first = await setup.wait_until_over(await setup.begin(session))
    setup.api.add(ALICE, session)  # with the same id, as in Keycloak
    second = await setup.wait_until_over(await setup.begin(session))
    assert second.began_at > first.began_at
    assert second.deliveries[setup.shop].event != first.deliveries[setup.shop].event
    assert len(setup.events(setup.shop)) == 2


async def test_a_new_session_under_the_same_id_means_that_the_old_one_is_gone(
    setup: TerminationSetup,
) -> None:
    session = setup.api.add(ALICE)
    setup.api.lag = 3600
    termination = await setup.begin(session)
    await setup.until(termination, lambda record: record.asked_at is not None)
    setup.api.sessions[session]["created_at"] = stamp(time.time() + 1)
    gone = await setup.until(termination, lambda record: record.gone_at is not None)
    assert gone.gone_at is not None


@pytest.mark.slow
async def test_a_later_login_under_the_same_id_lives_and_the_one_before_it_is_dead(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    """Without a token, the receiver writes the event seconds after the session was gone."""
    with KeycloakApi() as api:
        async with running(
            TerminationSetup(api, shared_redis, tmp_path), confirm_within=2.5
        ) as setup:
            login_at = int(time.time())
            session = api.add(ALICE_OF_KRATOS, start=login_at * 1000, lastAccess=login_at * 1000)
            termination = await setup.begin(session)
            await setup.until(termination, lambda record: record.gone_at is not None)
            await asyncio.sleep(1.1)
            later = int(time.time())
            api.add(ALICE_OF_KRATOS, session, start=later * 1000, lastAccess=later * 1000)
            over = await setup.wait_until_over(termination)
            assert over.deliveries[setup.shop].at > later
            assert login_at <= int(setup.marker(setup.shop, session)) < later


@pytest.mark.slow
async def test_a_later_session_with_the_same_id_decides_which_logins_are_dead(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    """The provider was unreachable before, and its clock is ahead of ours."""
    ahead = int(time.time()) + 20
    with KeycloakApi() as api:
        async with running(TerminationSetup(api, shared_redis, tmp_path)) as setup:
            session = api.add(ALICE_OF_KRATOS, start=ahead * 1000, lastAccess=ahead * 1000)
            found = await setup.provider.read(session)
            termination = await setup.begin(session)
            await setup.until(termination, lambda record: record.asked_at is not None)
            api.add(ALICE_OF_KRATOS, session, start=(ahead + 9) * 1000)
            over = await setup.wait_until_over(termination)
            assert found is not None
            assert over.used_at == found.created_at
            assert ahead <= int(setup.marker(setup.shop, session)) < ahead + 9


@pytest.mark.slow
async def test_a_late_token_of_an_earlier_login_under_the_same_id_is_no_evidence(
    setup: TerminationSetup,
) -> None:
    """It does not end later logins."""
    now = time.time()
    used = {"created_at": stamp(now - 20), "authenticated_at": stamp(now - 20)}
    session = setup.api.add(ALICE, last_interacted_at=stamp(now - 10), **used)
    termination = await setup.begin(session)
    await setup.send_token(setup.shop, session, since=now - 30)
    await setup.send_token(setup.news, session, since=now - 5)
    over = await setup.wait_until_over(termination)
    assert over.apps_written_by_us == (setup.shop,)
    assert int(setup.marker(setup.shop, session)) >= int(now)


@pytest.mark.slow
async def test_refresh_tokens_end_too_even_if_requested_later(setup: TerminationSetup) -> None:
    first, second = setup.api.add(ALICE), setup.api.add(ALICE)
    setup.api.lag = 3600
    await setup.begin(first, refresh_tokens=True)
    termination = await setup.begin(second)
    await setup.until(termination, lambda found: found.asked_at is not None)
    assert setup.api.refresh_tokens == {second}
    again = await setup.begin(second, refresh_tokens=True)
    assert again.refresh_tokens
    assert setup.api.refresh_tokens == set()
    setup.api.carry_out_all()
    assert (await setup.wait_until_over(termination)).refresh_tokens


async def test_only_the_apps_that_the_session_was_used_for_are_affected(
    setup: TerminationSetup,
) -> None:
    session = setup.api.add(ALICE, clients=[{"client_id": "shop-web"}, {"client_id": "elsewhere"}])
    termination = await setup.begin(session)
    assert (termination.apps, termination.awaits_token) == ((setup.shop,), True)


async def test_if_no_client_is_known_all_apps_get_an_event_without_waiting_for_tokens(
    setup: TerminationSetup,
) -> None:
    session = setup.api.add(ALICE, clients=[{"client_id": "elsewhere"}])
    termination = await setup.begin(session)
    assert set(termination.apps) == {setup.shop, setup.news}
    assert not termination.awaits_token


@pytest.mark.slow
async def test_earlier_entries_are_no_evidence(setup: TerminationSetup) -> None:
    session = setup.api.add(ALICE)
    await setup.send_token(setup.shop, session)
    termination = await setup.begin(session)
    await setup.send_token(setup.shop, "another-session")
    await setup.send_token(setup.news, session, since=time.time() - 3000)  # a stale token
    over = await setup.wait_until_over(termination)
    assert set(over.apps_written_by_us) == {setup.shop, setup.news}


async def test_a_logout_of_the_user_is_evidence_too(setup: TerminationSetup) -> None:
    session = setup.api.add(ALICE)
    termination = await setup.begin(session)
    for app in (setup.shop, setup.news):
        await setup.send_token(app, "", kind=EventKind.USER, sid=None)
    over = await setup.wait_until_over(termination)
    assert over.apps_written_by_us == ()


async def test_a_process_above_its_limit_takes_over_no_other_termination(
    setup: TerminationSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.termination.terminations.MAX_FOLLOWED", 3)
    setup.api.lag = 600.0
    left = [setup.api.add(ALICE) for _ in range(4)]
    mine = [setup.api.add(ALICE) for _ in range(5)]
    for session_id in mine:
        await setup.begin(session_id)
    dying = setup.new_terminations()
    dying._follow = lambda _: None  # type: ignore[method-assign]
    for session_id in left:
        found = await dying.begin(
            setup.provider, unlisted_session(setup, session_id), known_at=time.time()
        )
        setup.redis.delete(f"bcl:v1:ending:{found.id}:lease")
    await setup.terminations._take_over(of_user=False)
    assert set(setup.terminations._followed) == {
        termination_id(setup.issuer, session_id) for session_id in mine
    }


@pytest.mark.slow
async def test_another_process_takes_over_after_a_death(setup: TerminationSetup) -> None:
    session = setup.api.add(ALICE)
    setup.api.lag = 3600
    dying = setup.new_terminations()
    termination = await dying.begin(
        setup.provider, unlisted_session(setup, session), known_at=time.time()
    )
    await setup.until(termination, lambda record: record.asked_at is not None)
    # As if killed: it releases nothing, and the lease expires.
    await end(dying._followed.values())
    assert setup.redis.delete(f"bcl:v1:ending:{termination.id}:lease") == 1
    setup.api.carry_out_all()
    over = await setup.wait_until_over(termination)
    assert over.began_at == termination.began_at
    assert len(setup.api.paths("DELETE")) == 1
    assert setup.redis.sismember("bcl:v1:endings", termination.id) == 0


@pytest.mark.slow
async def test_503_answers_in_that_time_are_reported_and_earlier_ones_are_not(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        refused = [3.0]
        setup = TerminationSetup(api, shared_redis, tmp_path)
        async with running(setup, count_unavailable=lambda: refused[0]):
            before = await setup.wait_until_over(await setup.begin(api.add(ALICE)))
            assert "initiator" in (explanation(before, 0.3) or "")
            termination = await setup.begin(api.add(ALICE))
            refused[0] += 1
            said = explanation(await setup.wait_until_over(termination), 0.3) or ""
            assert "503" in said
            assert "initiator" not in said


async def test_two_followers_write_one_event(setup: TerminationSetup) -> None:
    """A lease that expired during a Redis outage can lead to two followers."""
    session = setup.api.add(ALICE)
    termination = await setup.begin(session)
    setup.terminations._follow(termination)
    await setup.wait_until_over(termination)
    assert len(setup.events(setup.shop)) == 1


async def test_no_provider_is_called_while_redis_is_away(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        async with running(TerminationSetup(api, redis_server, tmp_path)) as setup:
            session = api.add(ALICE)
            redis_server.stop()
            with pytest.raises(Unreadable):
                await setup.begin(session)
            assert api.paths("DELETE") == []


@pytest.mark.slow
async def test_a_redis_outage_only_delays_it(redis_server: RedisServer, tmp_path: Path) -> None:
    with Auth0Api() as api:
        async with running(TerminationSetup(api, redis_server, tmp_path)) as setup:
            session = api.add(ALICE)
            api.lag = 3600
            termination = await setup.begin(session)
            await setup.until(termination, lambda record: record.asked_at is not None)
            redis_server.stop()
            await asyncio.sleep(0.5)
            redis_server.start()
            api.carry_out_all()
            over = await setup.wait_until_over(termination)
            assert setup.redis.get(AppKeys(setup.shop).sid(setup.issuer, session)) is not None
            assert over.hindrance == "redis"
            assert "did not reach Redis" in (explanation(over, 0.3) or "")
