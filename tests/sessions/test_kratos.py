"""Ory Kratos: ended sessions, pages, and users identified by their own credential."""

from collections.abc import AsyncIterator

import pytest

from app.sessions.api_client.calls import new_client
from app.sessions.api_client.path_segment import InvalidId
from app.sessions.bulk import list_all
from app.sessions.provider_session import Device
from app.sessions.providers.factory import kratos_whoami
from app.sessions.providers.kratos_whoami import KratosCredential, KratosWhoami
from app.sessions.session_provider import FaultKind, ProviderFault
from tests.sessions.provider_fixtures import Stage, issuer_of, staged, tls
from tests.support.api_server import Response
from tests.support.kratos_api import KratosApi


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(KratosApi()) as stage:
        yield stage


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


# -- the user's own credential ---------------------------------------------------------------


@pytest.fixture
async def whoami(stage: Stage) -> AsyncIterator[KratosWhoami]:
    async with new_client(tls()) as client:
        found = kratos_whoami(issuer_of(stage.api), client)
        assert found is not None
        yield found


def by_token(value: str) -> KratosCredential:
    credential = KratosCredential.from_headers([value], [])
    assert credential is not None
    return credential


async def test_a_session_token_identifies_its_session(stage: Stage, whoami: KratosWhoami) -> None:
    here = stage.api.add(stage.alice)
    stage.api.add(stage.alice)
    session = await whoami.session(by_token(f"token-{here}"))
    assert (session.id, session.user_id) == (here, stage.alice)
    assert stage.api.requests[-1].headers["x-session-token"] == f"token-{here}"
    assert "authorization" not in stage.api.requests[-1].headers


@pytest.mark.parametrize("name", ["ory_kratos_session", "ory_session_playground123"])
async def test_of_a_browser_s_cookies_only_the_session_s_is_sent(
    stage: Stage, whoami: KratosWhoami, name: str
) -> None:
    here = stage.api.add(stage.alice)
    own = f"{name}=token-{here}"
    credential = KratosCredential.from_headers([], [f"shop=secret; {own}; x_{own}", "a=b"])
    assert credential is not None
    assert credential.is_cookie
    stage.api.cookie = name
    assert (await whoami.session(credential)).user_id == stage.alice
    assert stage.api.requests[-1].headers["cookie"] == own


async def test_an_ended_session_identifies_nobody(stage: Stage, whoami: KratosWhoami) -> None:
    ended = stage.api.add(stage.alice, active=False)
    with pytest.raises(ProviderFault) as caught:
        await whoami.session(by_token(f"token-{ended}"))
    assert caught.value.kind is FaultKind.UNAUTHORIZED


async def test_a_session_that_kratos_calls_inactive_identifies_nobody(
    stage: Stage, whoami: KratosWhoami
) -> None:
    session = stage.api.sessions[stage.api.add(stage.alice)] | {"active": False}
    stage.api.faults.append(Response(200, session))
    with pytest.raises(ProviderFault) as caught:
        await whoami.session(by_token("token"))
    assert caught.value.kind is FaultKind.UNAUTHORIZED


@pytest.mark.parametrize(
    ("tokens", "cookies"),
    [
        ([], []),
        ([""], []),
        (["a\r\nx: y"], []),
        (["a" * 20000], []),
        ([], ["ory_kratos_session="]),
        ([], ["ory_kratos_session"]),
        ([], ["shop=1; xory_kratos_session=token"]),
        ([], ["ory_kratos_session=\u00e9"]),
        ([], ["ory_kratos_session=" + "a" * 20000]),
    ],
)
def test_what_kratos_cannot_have_given_is_no_credential(
    tokens: list[str], cookies: list[str]
) -> None:
    assert KratosCredential.from_headers(tokens, cookies) is None


def test_a_credential_is_not_part_of_its_repr() -> None:
    for credential in (
        KratosCredential.from_headers(["hunter2"], []),
        KratosCredential.from_headers([], ["ory_kratos_session=hunter2"]),
    ):
        assert credential is not None
        assert "hunter2" not in repr(credential)
