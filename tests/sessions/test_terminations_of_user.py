"""All sessions of a user end with the provider's one call, and each is followed to its end.

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
from app.sessions.termination.record import Phase, Termination
from app.sessions.termination.redis_records import OPEN, OPEN_USERS
from app.sessions.termination.report import explanation
from backchannel_logout import AppKeys, EventKind
from tests.sessions.termination_fixture import ALICE, ALICE_OF_KRATOS, Scene, running
from tests.support.auth0_api import Auth0Api, stamp
from tests.support.auth0_api import fault as auth0_fault
from tests.support.keycloak_api import KeycloakApi
from tests.support.kratos_api import KratosApi
from tests.support.redis_server import RedisServer

BOB = "auth0|bob"
BOB_OF_KRATOS = "bbbbbbbb-0000-4000-8000-000000000002"
CALL = "/api/v2/users/auth0%7Calice/sessions"


@pytest.fixture
async def scene(shared_redis: RedisServer, tmp_path: Path) -> AsyncIterator[Scene]:
    with Auth0Api() as api:
        async with running(Scene(api, shared_redis, tmp_path)) as scene:
            yield scene


async def begin_all(
    scene: Scene,
    user: str = ALICE,
    *,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
    **options: Any,
) -> tuple[Termination, list[Termination]]:
    """As `app.admin.session_service` does it; ``meanwhile`` happens when they have been listed."""
    known_at = time.time()
    found = await list_all(scene.provider, user)
    if meanwhile is not None:
        await meanwhile()
    async with scene.endings.all_of_user(scene.provider, user, **options) as of_user:
        each = [
            await scene.endings.begin(
                scene.provider, one, known_at=known_at, user_termination=of_user, **options
            )
            for one in found
        ]
    return of_user, each


def user_marker(scene: Scene, app: str, user: str) -> int | None:
    found = scene.look.get(AppKeys(app).sub(scene.issuer, user))
    return None if found is None else int(found)


async def test_one_call_ends_them_and_each_is_confirmed(scene: Scene) -> None:
    mine, bobs = [scene.api.add(ALICE) for _ in range(5)], scene.api.add(BOB)
    before = int(time.time())
    _, each = await begin_all(scene, who="ada", why="stolen")
    over = [await scene.over(one) for one in each]
    of_user = await scene.over_of_user(ALICE)
    assert {one.session for one in over} == set(mine)
    assert scene.api.paths("DELETE") == [CALL]
    assert {one.asked_at for one in over} == {of_user.asked_at}
    assert scene.api.alive() == {bobs}
    for app in (scene.shop, scene.news):
        assert all(scene.marker(app, one) is not None for one in mine)
        found = user_marker(scene, app, ALICE)
        assert found is not None
        assert before <= found <= of_user.asked_at
        assert user_marker(scene, app, BOB) is None
        assert [one.source for one in scene.events(app) if one.kind is EventKind.USER] == ["auth0"]
    assert explanation(of_user, 0.3) is None
    assert (of_user.who, of_user.why, of_user.session) == ("ada", "stolen", "")


@pytest.mark.parametrize("kind", ["auth0", "kratos", "keycloak"])
async def test_a_session_that_begins_after_the_list_ends_too_and_is_confirmed(
    shared_redis: RedisServer, tmp_path: Path, kind: str
) -> None:
    user, bob = (ALICE, BOB) if kind == "auth0" else (ALICE_OF_KRATOS, BOB_OF_KRATOS)
    api: Any = {"auth0": Auth0Api, "kratos": KratosApi, "keycloak": KeycloakApi}[kind]()
    with api:
        async with running(Scene(api, shared_redis, tmp_path)) as scene:
            api.add(user)
            bobs, late = api.add(bob), []

            async def meanwhile() -> None:
                late.append(api.add(user))

            await begin_all(scene, user, meanwhile=meanwhile)
            of_user = await scene.over_of_user(user)
            assert api.alive() == {bobs}
            cutoff = user_marker(scene, scene.shop, user)
            assert cutoff is not None
            assert cutoff >= int(of_user.began_at)
            found = await scene.endings.find(scene.issuer, late[0])
            assert found is not None
            assert (await scene.over(found)).who == "-"


async def test_one_that_begins_in_the_last_moment_and_was_never_listed_ends_in_the_apps(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    """Between the adapter's own list and the deletion; Kratos tells nobody of it."""

    class Late(KratosApi):
        def answer(self, request: Any) -> Any:
            if request.method == "DELETE":
                self.add(ALICE_OF_KRATOS)
            return super().answer(request)

    with Late() as api:
        async with running(Scene(api, shared_redis, tmp_path)) as scene:
            api.add(ALICE_OF_KRATOS)
            _, each = await begin_all(scene, ALICE_OF_KRATOS)
            login_at = int(time.time())
            of_user = await scene.over_of_user(ALICE_OF_KRATOS)
            await scene.over(each[0])
            assert api.sessions == {}  # deleted, and not only deactivated
            cutoff = user_marker(scene, scene.news, ALICE_OF_KRATOS)
            assert cutoff is not None
            assert login_at <= cutoff <= of_user.asked_at


async def test_a_login_after_the_call_lives_and_holds_nothing_up(scene: Scene) -> None:
    scene.api.add(ALICE)
    scene.api.lag = 1.5
    _, each = await begin_all(scene)
    asked = await scene.over_of_user(ALICE, at="asked_at")
    again = scene.api.add(ALICE, created_at=stamp(time.time() + 2))
    await scene.over(each[0])
    over = await scene.over_of_user(ALICE)
    assert over.gone_at > asked.asked_at
    assert scene.api.alive() == {again}
    assert user_marker(scene, scene.shop, ALICE) == int(asked.asked_at)
    assert scene.marker(scene.shop, again) is None


async def test_a_login_by_a_session_that_was_not_gone_yet_is_dead(scene: Scene) -> None:
    session = scene.api.add(ALICE)
    scene.api.lag = 2.5
    _, each = await begin_all(scene)
    await scene.over_of_user(ALICE)
    over = await scene.over(each[0])
    assert over.gone_at > over.asked_at + 2
    for app in (scene.shop, scene.news):
        assert int(scene.marker(app, session) or 0) >= int(over.gone_at)


async def test_while_the_call_meets_trouble_each_session_is_ended_by_itself(scene: Scene) -> None:
    mine = {scene.api.add(ALICE) for _ in range(2)}
    real, refuses = scene.api._end_all, [True]
    scene.api._end_all = lambda user: (
        auth0_fault(500, "Internal Server Error", "") if refuses[0] else real(user)
    )
    _, each = await begin_all(scene)
    for one in each:
        await scene.over(one)
    assert {one.rsplit("/", 1)[1] for one in scene.api.paths("DELETE")} >= mine
    of_user = await scene.over_of_user(ALICE, at="problem")
    assert (of_user.asked_at, of_user.outcome) == (None, None)
    refuses[0] = False
    assert (await scene.over_of_user(ALICE)).problem is None


@pytest.mark.slow
async def test_a_call_that_is_never_taken_is_reported(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        async with running(Scene(api, shared_redis, tmp_path), give_up=1.5) as scene:
            api.add(ALICE)
            api._end_all = lambda _: auth0_fault(403, "Forbidden", "")  # type: ignore[method-assign]
            _, each = await begin_all(scene)
            await scene.over(each[0])
            over = await scene.over_of_user(ALICE, step=Phase.UNCONFIRMED)
            assert over.problem is not None
            assert over.problem.what == "forbidden"
            assert "all sessions of the user" in (explanation(over, 0.3) or "")
            assert user_marker(scene, scene.shop, ALICE) is None


async def test_refresh_tokens_end_as_well_where_that_is_said(scene: Scene) -> None:
    mine, bobs = {scene.api.add(ALICE) for _ in range(2)}, scene.api.add(BOB)
    _, each = await begin_all(scene, refresh_tokens=True)
    for one in each:
        await scene.over(one)
    await scene.over_of_user(ALICE)
    assert scene.api.refresh_tokens == {bobs}
    assert mine & scene.api.alive() == set()


@pytest.mark.slow
async def test_keycloak_signs_the_user_out_where_refresh_tokens_are_to_end(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    with KeycloakApi() as api:
        async with running(Scene(api, shared_redis, tmp_path)) as scene:
            api.add(ALICE_OF_KRATOS)
            api.add(ALICE_OF_KRATOS, offline=True)
            bobs = api.add(BOB_OF_KRATOS)
            _, each = await begin_all(scene, ALICE_OF_KRATOS, refresh_tokens=True)
            for one in each:
                await scene.over(one)
            await scene.over_of_user(ALICE_OF_KRATOS)
            assert api.alive() == {bobs}
            assert f"/admin/realms/shop/users/{ALICE_OF_KRATOS}/logout" in api.paths("POST")


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before the call", "after the call"])
async def test_another_process_goes_on_where_one_has_died(scene: Scene, when: str) -> None:
    mine, bobs = {scene.api.add(ALICE) for _ in range(3)}, scene.api.add(BOB)
    scene.api.lag = 3.0
    dying, living = scene.new_endings(), scene.endings
    scene.endings = dying
    if when == "before the call":
        dying._follow = lambda _: None  # type: ignore[method-assign]
    _, each = await begin_all(scene)
    if when == "after the call":
        await scene.over_of_user(ALICE, at="asked_at")
    # As if it had been killed: nothing is given back, and the leases run out.
    await end(dying._followed.values())
    of_user = await living.find_of_user(scene.issuer, ALICE)
    assert of_user is not None
    for one in (of_user, *each):
        scene.look.delete(f"bcl:v1:ending:{one.id}:lease")
    scene.endings = living
    for one in each:
        await scene.over(one)
    await scene.over_of_user(ALICE)
    assert scene.api.paths("DELETE") == [CALL]
    assert scene.api.alive() == {bobs}
    assert not mine & scene.api.alive()
    assert scene.look.smembers("bcl:v1:endings") & {one.id for one in each} == set()


async def begun_by_one_that_died(
    scene: Scene, sessions: int
) -> tuple[Termination, list[Termination]]:
    """The end of all of Alice's sessions, noted 31 seconds ago. Nobody has followed it."""
    for _ in range(sessions):
        scene.api.add(ALICE)
    living, dying = scene.endings, scene.new_endings(clock=lambda: time.time() - 31)
    dying._follow = lambda _: None  # type: ignore[method-assign]
    scene.endings = dying
    found = await begin_all(scene)
    scene.endings = living
    return found


def run_out(scene: Scene, *endings: Termination) -> None:
    """The lease of each runs out."""
    scene.look.delete(*(f"bcl:v1:ending:{one.id}:lease" for one in endings))


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_the_call_is_made_although_sessions_fill_the_places(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.termination.terminations.MAX_FOLLOWED", 3)
    monkeypatch.setattr("app.sessions.termination.follower.USER_CALL_SECONDS", 3600.0)
    bobs = scene.api.add(BOB)
    of_user, each = await begun_by_one_that_died(scene, 5)
    run_out(scene, *each)
    # On a slow machine the lease of the user's ending has run out by itself meanwhile.
    await eventually(lambda: len(scene.endings._followed) == 3 or bool(scene.api.paths("DELETE")))
    run_out(scene, of_user)
    await scene.over_of_user(ALICE)
    for one in each:
        # None was given up, and begun anew by the call.
        assert (await scene.over(one)).began_at == one.began_at
    assert scene.api.paths("DELETE") == [CALL]
    assert scene.api.alive() == {bobs}


async def test_a_call_that_nobody_follows_is_not_waited_for_long(scene: Scene) -> None:
    bobs = scene.api.add(BOB)
    of_user, each = await begun_by_one_that_died(scene, 3)
    scene.look.srem(OPEN_USERS, of_user.id)
    run_out(scene, of_user, *each)
    for one in each:
        await scene.over(one)
    assert scene.api.alive() == {bobs}
    assert CALL not in scene.api.paths("DELETE")


async def test_a_release_that_does_not_know_of_all_sessions_sees_only_those_of_one(
    scene: Scene,
) -> None:
    """It throws away what it finds among its own and does not understand."""
    of_user, each = await begun_by_one_that_died(scene, 2)
    assert scene.look.smembers(OPEN_USERS) >= {of_user.id}
    assert scene.look.smembers(OPEN) & {of_user.id, *(one.id for one in each)} == {
        one.id for one in each
    }
    run_out(scene, of_user, *each)
    await scene.over_of_user(ALICE)
    for one in each:
        await scene.over(one)
    await eventually(lambda: not scene.look.sismember(OPEN_USERS, of_user.id))


async def test_where_redis_does_not_note_which_is_the_newest_nothing_is_done(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        async with running(Scene(api, redis_server, tmp_path)) as scene:
            session = api.add(ALICE)
            newest = "bcl:v1:ending:user:*"
            rules = ["~bcl:v1:ending:[^u]*", "~bcl:v1:endings", "~bcl:v1:{*", f"%R~{newest}"]
            scene.look.execute_command("ACL", "SETUSER", "default", "resetkeys", *rules)
            with pytest.raises(Unreadable):
                await begin_all(scene)
            assert scene.endings._followed == {}
            scene.look.execute_command("ACL", "SETUSER", "default", "allkeys")
            assert list(scene.look.scan_iter("bcl:v1:ending:*", _type="hash")) == []
            assert (api.alive(), api.paths("DELETE")) == ({session}, [])


async def test_what_fails_in_the_middle_is_ended_all_the_same(scene: Scene) -> None:
    scene.api.add(ALICE)
    bobs = scene.api.add(BOB)
    with pytest.raises(KeyError):
        async with scene.endings.all_of_user(scene.provider, ALICE):
            raise KeyError
    await scene.over_of_user(ALICE)
    assert scene.api.alive() == {bobs}


async def test_while_redis_is_away_nothing_is_asked_of_the_provider(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with Auth0Api() as api:
        async with running(Scene(api, redis_server, tmp_path)) as scene:
            api.add(ALICE)
            redis_server.stop()
            with pytest.raises(Unreadable):
                await begin_all(scene)
            assert api.paths("DELETE") == []
