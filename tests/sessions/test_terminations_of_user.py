"""Ending all sessions of a user with the provider's one call, each followed to its end.

The neighbour survives in each of them: a session of another user.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.background import end
from app.history import Unreadable
from app.sessions.bulk import list_all
from app.sessions.termination.redis_records import OPEN, OPEN_USERS
from app.sessions.termination.report import explanation
from app.sessions.termination.termination import Phase, Termination
from backchannel_logout import AppKeys, EventKind
from tests.sessions.termination_fixture import ALICE, ALICE_OF_KRATOS, TerminationSetup, running
from tests.support.providers.auth0_api import Auth0Api, stamp
from tests.support.providers.auth0_api import fault as auth0_fault
from tests.support.providers.keycloak_api import KeycloakApi
from tests.support.providers.kratos_api import KratosApi
from tests.support.servers.redis_server import RedisServer

BOB = "auth0|bob"
BOB_OF_KRATOS = "bbbbbbbb-0000-4000-8000-000000000002"
CALL = "/api/v2/users/auth0%7Calice/sessions"


@pytest.fixture
async def setup(shared_redis: RedisServer, tmp_path: Path) -> AsyncIterator[TerminationSetup]:
    with Auth0Api() as api:
        async with running(TerminationSetup(api, shared_redis, tmp_path)) as setup:
            yield setup


async def begin_all(
    setup: TerminationSetup,
    user: str = ALICE,
    *,
    after_listing: Callable[[], Awaitable[None]] | None = None,
    **options: Any,
) -> tuple[Termination, list[Termination]]:
    """Begin it as `app.admin.session_service` does; call ``after_listing`` once they are listed."""
    known_at = time.time()
    sessions = await list_all(setup.provider, user)
    if after_listing is not None:
        await after_listing()
    async with setup.terminations.all_of_user(setup.provider, user, **options) as of_user:
        each = [
            await setup.terminations.begin(
                setup.provider, session, known_at=known_at, user_termination=of_user, **options
            )
            for session in sessions
        ]
    return of_user, each


def user_marker(setup: TerminationSetup, app: str, user: str) -> int | None:
    found = setup.redis.get(AppKeys(app).sub(setup.issuer, user))
    return None if found is None else int(found)


async def test_one_call_ends_them_and_each_is_confirmed(setup: TerminationSetup) -> None:
    mine, bobs = [setup.api.add(ALICE) for _ in range(5)], setup.api.add(BOB)
    before = int(time.time())
    _, each = await begin_all(setup, who="ada", why="stolen")
    over = [await setup.wait_until_over(termination) for termination in each]
    of_user = await setup.wait_until_user_over(ALICE)
    assert {termination.session for termination in over} == set(mine)
    assert setup.api.paths("DELETE") == [CALL]
    assert {termination.asked_at for termination in over} == {of_user.asked_at}
    assert setup.api.alive() == {bobs}
    for app in (setup.shop, setup.news):
        assert all(setup.marker(app, session_id) is not None for session_id in mine)
        found = user_marker(setup, app, ALICE)
        assert found is not None
        assert before <= found <= of_user.asked_at
        assert user_marker(setup, app, BOB) is None
        assert [event.source for event in setup.events(app) if event.kind is EventKind.USER] == [
            "auth0"
        ]
    assert explanation(of_user, 0.3) is None
    assert (of_user.who, of_user.why, of_user.session) == ("ada", "stolen", "")


@pytest.mark.parametrize("kind", ["auth0", "kratos", "keycloak"])
async def test_a_session_that_begins_after_the_list_ends_too_and_is_confirmed(
    shared_redis: RedisServer, tmp_path: Path, kind: str
) -> None:
    user, bob = (ALICE, BOB) if kind == "auth0" else (ALICE_OF_KRATOS, BOB_OF_KRATOS)
    api: Any = {"auth0": Auth0Api, "kratos": KratosApi, "keycloak": KeycloakApi}[kind]()
    with api:
        async with running(TerminationSetup(api, shared_redis, tmp_path)) as setup:
            api.add(user)
            bobs, late = api.add(bob), []

            async def after_listing() -> None:
                late.append(api.add(user))

            await begin_all(setup, user, after_listing=after_listing)
            of_user = await setup.wait_until_user_over(user)
            assert api.alive() == {bobs}
            cutoff = user_marker(setup, setup.shop, user)
            assert cutoff is not None
            assert cutoff >= int(of_user.began_at)
            found = await setup.terminations.find(setup.issuer, late[0])
            assert found is not None
            assert (await setup.wait_until_over(found)).who == "-"


async def test_a_session_that_begins_last_and_was_never_listed_ends_in_the_apps(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    """It begins between the adapter's list and the deletion, and Kratos sends no token for it."""

    class Late(KratosApi):
        def answer(self, request: Any) -> Any:
            if request.method == "DELETE":
                self.add(ALICE_OF_KRATOS)
            return super().answer(request)

    with Late() as api:
        async with running(TerminationSetup(api, shared_redis, tmp_path)) as setup:
            api.add(ALICE_OF_KRATOS)
            _, each = await begin_all(setup, ALICE_OF_KRATOS)
            login_at = int(time.time())
            of_user = await setup.wait_until_user_over(ALICE_OF_KRATOS)
            await setup.wait_until_over(each[0])
            assert api.sessions == {}  # deleted and not just deactivated
            cutoff = user_marker(setup, setup.news, ALICE_OF_KRATOS)
            assert cutoff is not None
            assert login_at <= cutoff <= of_user.asked_at


async def test_a_login_after_the_call_survives_and_delays_nothing(setup: TerminationSetup) -> None:
    setup.api.add(ALICE)
    setup.api.lag = 3600
    _, each = await begin_all(setup)
    asked = await setup.wait_until_user_over(ALICE, at="asked_at")
    again = setup.api.add(ALICE, created_at=stamp(time.time() + 2))
    setup.api.carry_out_all()
    await setup.wait_until_over(each[0])
    over = await setup.wait_until_user_over(ALICE)
    assert over.gone_at > asked.asked_at
    assert setup.api.alive() == {again}
    assert user_marker(setup, setup.shop, ALICE) == int(asked.asked_at)
    assert setup.marker(setup.shop, again) is None


async def test_a_login_by_a_session_that_was_not_gone_yet_is_dead(setup: TerminationSetup) -> None:
    session = setup.api.add(ALICE)
    setup.api.lag = 3600
    _, each = await begin_all(setup)
    asked = await setup.wait_until_user_over(ALICE, at="asked_at")
    await asyncio.sleep(asked.asked_at + 2 - time.time())  # into a later second
    setup.api.carry_out_all()
    await setup.wait_until_user_over(ALICE)
    over = await setup.wait_until_over(each[0])
    assert over.gone_at > over.asked_at + 2
    for app in (setup.shop, setup.news):
        assert int(setup.marker(app, session) or 0) >= int(over.gone_at)


async def test_each_session_is_ended_alone_while_the_call_fails(setup: TerminationSetup) -> None:
    mine = {setup.api.add(ALICE) for _ in range(2)}
    real, refuses = setup.api._end_all, [True]
    setup.api._end_all = lambda user: (
        auth0_fault(500, "Internal Server Error", "") if refuses[0] else real(user)
    )
    _, each = await begin_all(setup)
    for termination in each:
        await setup.wait_until_over(termination)
    assert {path.rsplit("/", 1)[1] for path in setup.api.paths("DELETE")} >= mine
    of_user = await setup.wait_until_user_over(ALICE, at="problem")
    assert (of_user.asked_at, of_user.outcome) == (None, None)
    refuses[0] = False
    assert (await setup.wait_until_user_over(ALICE)).problem is None


@pytest.mark.slow
async def test_a_call_that_is_never_accepted_is_reported(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        async with running(TerminationSetup(api, shared_redis, tmp_path), give_up=1.5) as setup:
            api.add(ALICE)
            api._end_all = lambda _: auth0_fault(403, "Forbidden", "")  # type: ignore[method-assign]
            _, each = await begin_all(setup)
            await setup.wait_until_over(each[0])
            over = await setup.wait_until_user_over(ALICE, phase=Phase.UNCONFIRMED)
            assert over.problem is not None
            assert over.problem.what == "forbidden"
            assert "all sessions of the user" in (explanation(over, 0.3) or "")
            assert user_marker(setup, setup.shop, ALICE) is None


async def test_refresh_tokens_end_too_if_requested(setup: TerminationSetup) -> None:
    mine, bobs = {setup.api.add(ALICE) for _ in range(2)}, setup.api.add(BOB)
    _, each = await begin_all(setup, refresh_tokens=True)
    for termination in each:
        await setup.wait_until_over(termination)
    await setup.wait_until_user_over(ALICE)
    assert setup.api.refresh_tokens == {bobs}
    assert mine & setup.api.alive() == set()


@pytest.mark.slow
async def test_keycloak_signs_the_user_out_if_refresh_tokens_are_to_end(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    with KeycloakApi() as api:
        async with running(TerminationSetup(api, shared_redis, tmp_path)) as setup:
            api.add(ALICE_OF_KRATOS)
            api.add(ALICE_OF_KRATOS, offline=True)
            bobs = api.add(BOB_OF_KRATOS)
            _, each = await begin_all(setup, ALICE_OF_KRATOS, refresh_tokens=True)
            for termination in each:
                await setup.wait_until_over(termination)
            await setup.wait_until_user_over(ALICE_OF_KRATOS)
            assert api.alive() == {bobs}
            assert f"/admin/realms/shop/users/{ALICE_OF_KRATOS}/logout" in api.paths("POST")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before the call", "after the call"])
async def test_another_process_takes_over_after_a_death(setup: TerminationSetup, when: str) -> None:
    mine, bobs = {setup.api.add(ALICE) for _ in range(3)}, setup.api.add(BOB)
    setup.api.lag = 3600
    dying, living = setup.new_terminations(), setup.terminations
    setup.terminations = dying
    if when == "before the call":
        dying._follow = lambda _: None  # type: ignore[method-assign]
    _, each = await begin_all(setup)
    if when == "after the call":
        await setup.wait_until_user_over(ALICE, at="asked_at")
    # As if killed: it releases nothing, and the leases expire.
    await end(dying._followed.values())
    of_user = await living.records.newest_of(setup.issuer, ALICE)
    assert of_user is not None
    for termination in (of_user, *each):
        setup.redis.delete(f"bcl:v1:ending:{termination.id}:lease")
    setup.terminations = living
    setup.api.carry_out_all()
    for termination in each:
        await setup.wait_until_over(termination)
    await setup.wait_until_user_over(ALICE)
    assert setup.api.paths("DELETE") == [CALL]
    assert setup.api.alive() == {bobs}
    assert not mine & setup.api.alive()
    assert (
        setup.redis.smembers("bcl:v1:endings") & {termination.id for termination in each} == set()
    )


async def begun_by_one_that_died(
    setup: TerminationSetup, sessions: int
) -> tuple[Termination, list[Termination]]:
    """The termination of Alice's sessions, recorded 31 seconds ago and never followed."""
    for _ in range(sessions):
        setup.api.add(ALICE)
    living, dying = setup.terminations, setup.new_terminations(clock=lambda: time.time() - 31)
    dying._follow = lambda _: None  # type: ignore[method-assign]
    setup.terminations = dying
    found = await begin_all(setup)
    setup.terminations = living
    return found


def expire_leases(setup: TerminationSetup, *terminations: Termination) -> None:
    """Expire each lease."""
    setup.redis.delete(*(f"bcl:v1:ending:{termination.id}:lease" for termination in terminations))


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_the_call_is_made_although_sessions_fill_the_limit(
    setup: TerminationSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.termination.terminations.MAX_FOLLOWED", 3)
    monkeypatch.setattr("app.sessions.termination.follower.USER_CALL_SECONDS", 3600.0)
    bobs = setup.api.add(BOB)
    of_user, each = await begun_by_one_that_died(setup, 5)
    expire_leases(setup, *each)
    # On a slow machine, the lease of the user's termination may have expired already.
    await eventually(
        lambda: len(setup.terminations._followed) == 3 or bool(setup.api.paths("DELETE"))
    )
    expire_leases(setup, of_user)
    await setup.wait_until_user_over(ALICE)
    for termination in each:
        # None was abandoned and begun again by the call.
        assert (await setup.wait_until_over(termination)).began_at == termination.began_at
    assert setup.api.paths("DELETE") == [CALL]
    assert setup.api.alive() == {bobs}


async def test_sessions_do_not_wait_long_for_a_call_without_a_follower(
    setup: TerminationSetup,
) -> None:
    bobs = setup.api.add(BOB)
    of_user, each = await begun_by_one_that_died(setup, 3)
    setup.redis.srem(OPEN_USERS, of_user.id)
    expire_leases(setup, of_user, *each)
    for termination in each:
        await setup.wait_until_over(termination)
    assert setup.api.alive() == {bobs}
    assert CALL not in setup.api.paths("DELETE")


async def test_an_older_release_sees_only_terminations_of_one_session(
    setup: TerminationSetup,
) -> None:
    """It drops records of its own set that it does not understand."""
    of_user, each = await begun_by_one_that_died(setup, 2)
    assert setup.redis.smembers(OPEN_USERS) >= {of_user.id}
    assert setup.redis.smembers(OPEN) & {of_user.id, *(termination.id for termination in each)} == {
        termination.id for termination in each
    }
    expire_leases(setup, of_user, *each)
    await setup.wait_until_user_over(ALICE)
    for termination in each:
        await setup.wait_until_over(termination)
    await eventually(lambda: not setup.redis.sismember(OPEN_USERS, of_user.id))


async def test_nothing_ends_if_redis_does_not_record_the_termination(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        async with running(TerminationSetup(api, redis_server, tmp_path)) as setup:
            session = api.add(ALICE)
            newest = "bcl:v1:ending:user:*"
            rules = ["~bcl:v1:ending:[^u]*", "~bcl:v1:endings", "~bcl:v1:{*", f"%R~{newest}"]
            setup.redis.execute_command("ACL", "SETUSER", "default", "resetkeys", *rules)
            with pytest.raises(Unreadable):
                await begin_all(setup)
            assert setup.terminations._followed == {}
            setup.redis.execute_command("ACL", "SETUSER", "default", "allkeys")
            assert list(setup.redis.scan_iter("bcl:v1:ending:*", _type="hash")) == []
            assert (api.alive(), api.paths("DELETE")) == ({session}, [])


async def test_a_failure_halfway_still_ends_all_sessions(setup: TerminationSetup) -> None:
    setup.api.add(ALICE)
    bobs = setup.api.add(BOB)
    with pytest.raises(KeyError):
        async with setup.terminations.all_of_user(setup.provider, ALICE):
            raise KeyError
    await setup.wait_until_user_over(ALICE)
    assert setup.api.alive() == {bobs}


async def test_no_provider_is_called_while_redis_is_away(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        async with running(TerminationSetup(api, redis_server, tmp_path)) as setup:
            api.add(ALICE)
            redis_server.stop()
            with pytest.raises(Unreadable):
                await begin_all(setup)
            assert api.paths("DELETE") == []
