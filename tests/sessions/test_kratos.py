"""Ory Kratos: ended sessions, pages, and users identified by their own credential."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from app.sessions.api_client.calls import MAX_CONCURRENT
from app.sessions.api_client.path_segment import InvalidId
from app.sessions.bulk import list_all
from app.sessions.provider_session import Device
from app.sessions.providers.factory import kratos_whoami
from app.sessions.providers.kratos_whoami import MAX_WAITING, KratosCredential, KratosWhoami
from app.sessions.session_provider import FaultKind, ProviderFault
from app.tokens.fetch import new_client
from tests.sessions.provider_fixtures import AdapterSetup, adapter_setup, issuer_of, tls
from tests.support.providers.api_server import Response
from tests.support.providers.kratos_api import KratosApi


@pytest.fixture
async def setup() -> AsyncIterator[AdapterSetup]:
    async with adapter_setup(KratosApi()) as setup:
        yield setup


# -- admin ---------------------------------------------------------------------------------


async def test_everything_that_kratos_reports_about_a_session_is_kept(setup: AdapterSetup) -> None:
    session = await setup.adapter.read(setup.api.add(setup.alice))
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
async def test_an_address_is_reported_without_its_port(
    setup: AdapterSetup, told: str | None, ip: str | None
) -> None:
    setup.api.add(setup.alice, devices=[{"ip_address": told, "user_agent": "Firefox/1"}])
    (session,) = (await setup.adapter.list(setup.alice)).sessions
    assert session.last_device.ip == ip


async def test_one_session_is_deactivated_and_still_known(setup: AdapterSetup) -> None:
    session_id = setup.api.add(setup.alice)
    assert await setup.adapter.end(session_id)
    session = await setup.adapter.read(session_id)
    assert session is not None
    assert not session.active
    assert (await setup.adapter.list(setup.alice)).sessions == ()


async def test_all_sessions_of_a_user_are_deleted(setup: AdapterSetup) -> None:
    session_id = setup.api.add(setup.alice)
    await setup.adapter.end_all(setup.alice)
    assert await setup.adapter.read(session_id) is None


async def test_an_id_that_kratos_cannot_have_issued_makes_no_call(setup: AdapterSetup) -> None:
    for wrong in ("whoami", "AAAAAAAA-0000-4000-8000-000000000001", "1", "a" * 36):
        with pytest.raises(InvalidId):
            await setup.adapter.read(wrong)
    assert setup.api.requests == []


async def test_pages_by_key_are_read_too(
    setup: AdapterSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.sessions.providers.kratos.PAGE_SIZE", 2)
    setup.api.keyset = True
    mine = {setup.api.add(setup.alice) for _ in range(5)}
    assert {session.id for session in await list_all(setup.adapter, setup.alice)} == mine


async def test_only_the_token_of_a_page_link_is_used(setup: AdapterSetup) -> None:
    session_id = setup.api.sessions[setup.api.add(setup.alice)]
    link = '<http://evil.example/x?page_token=t2&active=false&per_page=9>; rel="next"'
    setup.api.faults.append(Response(200, [session_id], {"Link": link}))
    page = await setup.adapter.list(setup.alice)
    assert page.next == "page_token=t2"


async def test_a_forged_page_token_changes_no_other_parameter(setup: AdapterSetup) -> None:
    setup.api.faults.append(Response(200, []))
    await setup.adapter.list(setup.alice, "active=false&per_page=1&page_token=t2&x=1")
    assert setup.api.requests[-1].query == {
        "active": "true", "per_page": "250", "page_token": "t2",
    }  # fmt: skip


async def test_a_session_before_its_second_factor_belongs_to_the_requested_user(
    setup: AdapterSetup,
) -> None:
    session_id = setup.api.add(setup.alice)
    body = setup.api.sessions[session_id] | {"identity": None}
    setup.api.faults.extend([Response(200, body)] * 2)
    session = await setup.adapter.read(session_id, user_id=setup.alice)
    assert session is not None
    assert session.user_id == setup.alice
    with pytest.raises(ProviderFault) as caught:
        await setup.adapter.read(session_id)
    assert caught.value.detail == "no_user"


# -- the user's own credential ---------------------------------------------------------------


@pytest.fixture
async def whoami(setup: AdapterSetup) -> AsyncIterator[KratosWhoami]:
    async with new_client(tls()) as client:
        found = kratos_whoami(issuer_of(setup.api), client)
        assert found is not None
        yield found


def by_token(value: str) -> KratosCredential:
    credential = KratosCredential.from_headers([value], [])
    assert credential is not None
    return credential


async def test_a_session_token_identifies_its_session(
    setup: AdapterSetup, whoami: KratosWhoami
) -> None:
    here = setup.api.add(setup.alice)
    setup.api.add(setup.alice)
    session = await whoami.session(by_token(f"token-{here}"))
    assert (session.id, session.user_id) == (here, setup.alice)
    assert setup.api.requests[-1].headers["x-session-token"] == f"token-{here}"
    assert "authorization" not in setup.api.requests[-1].headers


@pytest.mark.parametrize("name", ["ory_kratos_session", "ory_session_playground123"])
async def test_only_the_session_cookie_of_a_browser_is_sent(
    setup: AdapterSetup, whoami: KratosWhoami, name: str
) -> None:
    here = setup.api.add(setup.alice)
    own = f"{name}=token-{here}"
    credential = KratosCredential.from_headers([], [f"shop=secret; {own}; x_{own}", "a=b"])
    assert credential is not None
    assert credential.is_cookie
    setup.api.cookie = name
    assert (await whoami.session(credential)).user_id == setup.alice
    assert setup.api.requests[-1].headers["cookie"] == own


async def test_a_cookie_that_kratos_sets_for_one_user_is_not_sent_for_another(
    setup: AdapterSetup, whoami: KratosWhoami
) -> None:
    alices, bobs = setup.api.add(setup.alice), setup.api.add(setup.bob)
    cookie = f"ory_kratos_session=token-{alices}; Path=/"
    setup.api.faults.append(Response(200, setup.api.sessions[alices], {"Set-Cookie": cookie}))
    assert (await whoami.session(by_token(f"token-{alices}"))).user_id == setup.alice
    assert (await whoami.session(by_token(f"token-{bobs}"))).user_id == setup.bob
    assert "cookie" not in setup.api.requests[-1].headers
    bobs_cookie = KratosCredential.from_headers([], [f"ory_kratos_session=token-{bobs}"])
    assert bobs_cookie is not None
    assert (await whoami.session(bobs_cookie)).user_id == setup.bob
    assert setup.api.requests[-1].headers["cookie"] == f"ory_kratos_session=token-{bobs}"


async def test_a_429_for_one_credential_does_not_hold_back_another(
    setup: AdapterSetup, whoami: KratosWhoami
) -> None:
    setup.api.faults.append(Response(429, {}, {"Retry-After": "300"}))
    with pytest.raises(ProviderFault) as caught:
        await whoami.session(by_token("junk"))
    assert (caught.value.kind, caught.value.retry_after) == (FaultKind.LIMITED, 300)
    alices = setup.api.add(setup.alice)
    assert (await whoami.session(by_token(f"token-{alices}"))).id == alices
    assert len(setup.api.requests) == 2


@contextlib.asynccontextmanager
async def hanging_calls(api: KratosApi, whoami: KratosWhoami, number: int) -> AsyncIterator[None]:
    """Calls without an answer; the first `MAX_CONCURRENT` have arrived at Kratos."""
    api.faults.extend(["hang"] * number)
    calls = [asyncio.create_task(whoami.session(by_token("junk"))) for _ in range(number)]
    try:
        async with asyncio.timeout(60):
            while len(api.requests) < min(number, MAX_CONCURRENT):
                await asyncio.sleep(0.001)
        yield
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_the_wait_for_a_slot_is_part_of_the_deadline(
    setup: AdapterSetup, whoami: KratosWhoami, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hanging_calls(setup.api, whoami, MAX_CONCURRENT):
        monkeypatch.setattr("app.sessions.providers.kratos_whoami.CALL_SECONDS", 0.05)
        with pytest.raises(ProviderFault) as caught:
            await whoami.session(by_token("token"))
    assert (caught.value.kind, caught.value.detail) == (FaultKind.UNAVAILABLE, "timeout")
    assert all(each.headers["x-session-token"] == "junk" for each in setup.api.requests)


async def test_a_call_is_refused_at_once_when_too_many_wait(
    setup: AdapterSetup, whoami: KratosWhoami
) -> None:
    async with hanging_calls(setup.api, whoami, MAX_CONCURRENT + MAX_WAITING):
        with pytest.raises(ProviderFault) as caught:
            await whoami.session(by_token("token"))
    assert caught.value.detail == "busy"
    setup.api.faults.clear()
    alices = setup.api.add(setup.alice)
    assert (await whoami.session(by_token(f"token-{alices}"))).id == alices


async def test_an_ended_session_identifies_nobody(
    setup: AdapterSetup, whoami: KratosWhoami
) -> None:
    ended = setup.api.add(setup.alice, active=False)
    with pytest.raises(ProviderFault) as caught:
        await whoami.session(by_token(f"token-{ended}"))
    assert caught.value.kind is FaultKind.UNAUTHORIZED


async def test_a_session_that_kratos_calls_inactive_identifies_nobody(
    setup: AdapterSetup, whoami: KratosWhoami
) -> None:
    session = setup.api.sessions[setup.api.add(setup.alice)] | {"active": False}
    setup.api.faults.append(Response(200, session))
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
def test_a_value_that_kratos_cannot_have_issued_is_no_credential(
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
