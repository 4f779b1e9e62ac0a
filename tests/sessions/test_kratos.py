"""Ory Kratos: deactivated or deleted, pages, and what users may do with their own sessions."""

from collections.abc import AsyncIterator

import pytest

from app.sessions.api_client.calls import new_client
from app.sessions.api_client.path_segment import InvalidId
from app.sessions.bulk import list_all
from app.sessions.provider_session import Device
from app.sessions.providers.factory import own_sessions
from app.sessions.providers.kratos_whoami import NoCredential, OwnSessions, UserCredential
from app.sessions.session_provider import FaultKind, ProviderFault
from tests.sessions.provider_fixtures import Stage, issuer_of, staged, tls
from tests.support.api_server import Response
from tests.support.kratos_api import KratosApi


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(KratosApi()) as stage:
        yield stage


@pytest.fixture
async def own(stage: Stage) -> AsyncIterator[OwnSessions]:
    async with new_client(tls()) as client:
        found = own_sessions(issuer_of(stage.api), client)
        assert found is not None
        yield found


def by_token(session_id: str) -> UserCredential:
    return UserCredential(session_token=f"token-{session_id}")


# -- admin ---------------------------------------------------------------------------------


async def test_everything_that_kratos_tells_of_a_session_is_kept(stage: Stage) -> None:
    session = await stage.adapter.read(stage.api.add(stage.alice))
    assert session is not None
    assert session.first_device == Device(user_agent="Firefox/1", ip="192.0.2.1")
    assert session.last_device == Device(user_agent="Firefox/2", ip="192.0.2.2")
    assert session.methods == ("password",)
    assert session.created_at == session.authenticated_at


@pytest.mark.parametrize(
    ("told", "ip"),
    [
        ("192.0.2.1", "192.0.2.1"), ("192.0.2.1:33308", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:33308", "2001:db8::1"), ("[::1]", "::1"), ("[::1]:123", "::1"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1"), ("", None), (None, None),
    ],
)  # fmt: skip
async def test_an_address_is_told_without_its_port(
    stage: Stage, told: str | None, ip: str | None
) -> None:
    stage.api.add(stage.alice, devices=[{"ip_address": told, "user_agent": "Firefox/1"}])
    (session,) = (await stage.adapter.list(stage.alice)).sessions
    assert session.last_device.ip == ip


async def test_one_session_is_deactivated_and_still_known(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    assert await stage.adapter.end(one)
    session = await stage.adapter.read(one)
    assert session is not None
    assert not session.active
    assert (await stage.adapter.list(stage.alice)).sessions == ()


async def test_all_sessions_of_a_user_are_deleted(stage: Stage) -> None:
    one = stage.api.add(stage.alice)
    await stage.adapter.end_all(stage.alice)
    assert await stage.adapter.read(one) is None


async def test_an_id_that_kratos_can_not_have_given_asks_nobody(stage: Stage) -> None:
    for wrong in ("whoami", "AAAAAAAA-0000-4000-8000-000000000001", "1", "a" * 36):
        with pytest.raises(InvalidId):
            await stage.adapter.read(wrong)
    assert stage.api.requests == []


async def test_pages_that_are_found_by_key_are_read_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.providers.kratos.PAGE_SIZE", 2)
    stage.api.keyset = True
    mine = {stage.api.add(stage.alice) for _ in range(5)}
    assert {session.id for session in await list_all(stage.adapter, stage.alice)} == mine


async def test_of_a_page_s_link_only_the_token_is_believed(stage: Stage) -> None:
    one = stage.api.sessions[stage.api.add(stage.alice)]
    link = '<http://evil.example/x?page_token=t2&active=false&per_page=9>; rel="next"'
    stage.api.faults.append(Response(200, [one], {"Link": link}))
    page = await stage.adapter.list(stage.alice)
    assert page.next == "page_token=t2"


async def test_a_page_of_somebody_s_own_making_changes_nothing_else(stage: Stage) -> None:
    stage.api.faults.append(Response(200, []))
    await stage.adapter.list(stage.alice, "active=false&per_page=1&page_token=t2&x=1")
    assert stage.api.requests[-1].query == {
        "active": "true", "per_page": "250", "page_token": "t2",
    }  # fmt: skip


async def test_a_session_before_its_second_factor_is_the_user_s_who_was_asked_for(
    stage: Stage,
) -> None:
    one = stage.api.add(stage.alice)
    body = stage.api.sessions[one] | {"identity": None}
    stage.api.faults.extend([Response(200, body)] * 2)
    session = await stage.adapter.read(one, user_id=stage.alice)
    assert session is not None
    assert session.user_id == stage.alice
    with pytest.raises(ProviderFault) as caught:
        await stage.adapter.read(one)
    assert caught.value.detail == "no_user"


# -- self-service --------------------------------------------------------------------------


async def test_a_user_sees_the_current_session_and_the_others(
    stage: Stage, own: OwnSessions
) -> None:
    here, there = stage.api.add(stage.alice), stage.api.add(stage.alice)
    stage.api.add(stage.bob)
    assert (await own.current(by_token(here))).id == here
    others = await own.others(by_token(here))
    assert [session.id for session in others.sessions] == [there]


async def test_a_cookie_is_passed_on_as_well_as_a_token(stage: Stage, own: OwnSessions) -> None:
    here = stage.api.add(stage.alice)
    user = UserCredential(cookie=f"ory_kratos_session=token-{here}")
    assert (await own.current(user)).user_id == stage.alice
    assert "authorization" not in stage.api.requests[-1].headers


async def test_a_user_ends_one_of_the_others(stage: Stage, own: OwnSessions) -> None:
    here, there, third = (stage.api.add(stage.alice) for _ in range(3))
    bobs = stage.api.add(stage.bob)
    await own.end(by_token(here), there)
    assert stage.api.alive() == {here, third, bobs}
    assert await own.end_others(by_token(here)) == 2  # with the one that has ended
    assert stage.api.alive() == {here, bobs}


async def test_a_user_can_not_end_somebody_else_s(stage: Stage, own: OwnSessions) -> None:
    here, bobs = stage.api.add(stage.alice), stage.api.add(stage.bob)
    await own.end(by_token(here), bobs)
    assert stage.api.alive() == {here, bobs}


async def test_the_current_session_is_ended_by_a_logout_only(
    stage: Stage, own: OwnSessions
) -> None:
    here = stage.api.add(stage.alice)
    with pytest.raises(ProviderFault) as caught:
        await own.end(by_token(here), here)
    assert caught.value.detail == "http_400"
    assert stage.api.alive() == {here}


async def test_who_is_not_signed_in_is_unauthorized(stage: Stage, own: OwnSessions) -> None:
    ended = stage.api.add(stage.alice, active=False)
    for act in (
        own.current(by_token(ended)),
        own.others(by_token(ended)),
        own.end_others(by_token(ended)),
    ):
        with pytest.raises(ProviderFault) as caught:
            await act
        assert caught.value.kind is FaultKind.UNAUTHORIZED


@pytest.mark.parametrize(
    "nothing",
    [
        UserCredential(),
        UserCredential(session_token="", cookie=""),
        UserCredential(session_token="a\r\nx: y"),
        UserCredential(cookie="a=b\nc"),
        UserCredential(cookie="a=\u00e9"),
        UserCredential(cookie="a" * 20000),
    ],
)
async def test_without_a_credential_that_can_be_passed_on_nobody_is_asked(
    stage: Stage, own: OwnSessions, nothing: UserCredential
) -> None:
    with pytest.raises(NoCredential):
        await own.current(nothing)
    assert stage.api.requests == []


def test_a_user_s_credential_is_not_shown() -> None:
    assert "hunter2" not in repr(UserCredential(session_token="hunter2", cookie="hunter2"))
