"""The endpoint over HTTP with a real Redis: what providers see."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import redis

from app.backchannel.form import MAX_BODY
from app.errors import SENTENCES, Reason
from backchannel_logout import AppKeys
from tests.support.providers.provider import ABSENT, Provider
from tests.support.receiver import Receiver, config, wait_for
from tests.support.servers.redis_server import RedisServer
from tests.tokens.cases import CASES, Case

KEYS = AppKeys("shop")
OPTIONS = sorted({case.options for case in CASES})


class SharedReceiver:
    """One receiver for the module, with a provider for each set of issuer options."""

    def __init__(self, receiver: Receiver, providers: dict[str, Provider], redis_url: str) -> None:
        self.receiver = receiver
        self.providers = providers
        self.provider = providers[""]
        self.redis: redis.Redis = redis.Redis.from_url(redis_url, decode_responses=True)


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, shared_redis: RedisServer
) -> Iterator[SharedReceiver]:
    providers = {options: Provider() for options in OPTIONS}
    for provider in providers.values():
        provider.__enter__()
    issuers = [f'issuer = "{p.issuer}"\n{options}' for options, p in providers.items()]
    receiver = Receiver(tmp_path_factory.mktemp("receiver"), config(shared_redis.url, *issuers))
    shared = SharedReceiver(receiver.start(), providers, shared_redis.url)
    yield shared
    shared.redis.close()
    receiver.stop()
    for provider in providers.values():
        provider.__exit__()


def events(shared: SharedReceiver) -> int:
    length: int = shared.redis.xlen(KEYS.events)
    return length


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_answer_to_each_token(case: Case, shared: SharedReceiver) -> None:
    """200 with an empty body, or 400 with the reason; nothing of the token is echoed."""
    provider = shared.providers[case.options]
    token = case.token(provider)
    before = events(shared)
    answer = shared.receiver.post(token)
    assert answer.headers["cache-control"] == "no-store"
    if case.expected is None:
        assert (answer.status_code, answer.content) == (200, b"")
        assert events(shared) == before + 1
    else:
        assert answer.status_code == 400
        assert answer.json() == {
            "error": "invalid_request",
            "error_description": f"{case.expected}: {SENTENCES[case.expected]}",
        }
        assert events(shared) == before, "a refused token leaves nothing in Redis"


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def post(
    shared: SharedReceiver, body: bytes | str, headers: dict[str, str] | None = None
) -> httpx.Response:
    return shared.receiver.http.post(
        shared.receiver.url + "/backchannel-logout", content=body, headers=FORM | (headers or {})
    )


@pytest.mark.parametrize(
    ("name", "body", "content_type", "reason"),
    [
        ("JSON", '{"logout_token": "%s"}', "application/json", Reason.CONTENT_TYPE),
        ("multipart", "logout_token=%s", "multipart/form-data; boundary=x", Reason.CONTENT_TYPE),
        ("no content type", "logout_token=%s", "", Reason.CONTENT_TYPE),
        ("empty", "", None, Reason.LOGOUT_TOKEN_MISSING),
        ("another field", "token=%s", None, Reason.LOGOUT_TOKEN_MISSING),
        ("another case", "LOGOUT_TOKEN=%s", None, Reason.LOGOUT_TOKEN_MISSING),
        ("no value", "logout_token=", None, Reason.LOGOUT_TOKEN_MISSING),
        ("twice", "logout_token=%s&logout_token=%s", None, Reason.LOGOUT_TOKEN_REPEATED),
        ("too many fields", "&" * 5000 + "logout_token=%s", None, Reason.FORM),
        ("too large", "x=" + "y" * MAX_BODY + "&logout_token=%s", None, Reason.BODY_TOO_LARGE),
    ],
)
def test_a_body_that_is_not_a_logout_request_is_refused(
    name: str, body: str, content_type: str | None, reason: Reason, shared: SharedReceiver
) -> None:
    token = shared.provider.token()
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = post(shared, body.replace("%s", token), headers)
    assert answer.status_code == 400, name
    assert answer.json()["error_description"].startswith(f"{reason}: "), name
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("name", "before", "after", "content_type"),
    [
        ("charset", "", "", "application/x-www-form-urlencoded; charset=utf-8"),
        ("capitals", "", "", "Application/X-WWW-Form-URLEncoded"),
        ("fields beside it", "state=1&", "&x=%C3%A9&y=%ff", None),
        ("bytes beside it", "x=é&", "", None),
        ("a bare field", "flag&", "", None),
    ],
)
def test_additions_of_providers_are_ignored(
    name: str, before: str, after: str, content_type: str | None, shared: SharedReceiver
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = f"{before}logout_token={shared.provider.token()}{after}"
    assert post(shared, body.encode(), headers).status_code == 200, name


def test_a_percent_encoded_token_is_decoded(shared: SharedReceiver) -> None:
    token = quote(shared.provider.token(), safe="").replace("e", "%65")
    assert post(shared, f"logout_token={token}").status_code == 200


def test_a_body_in_chunks_without_a_length_is_read(shared: SharedReceiver) -> None:
    body = f"logout_token={shared.provider.token()}".encode()
    answer = shared.receiver.http.post(
        shared.receiver.url + "/backchannel-logout",
        content=(body[i : i + 7] for i in range(0, len(body), 7)),
        headers=FORM,
    )
    assert answer.status_code == 200


def test_a_token_in_the_query_is_not_read(shared: SharedReceiver) -> None:
    """It would be in the log of every proxy in between."""
    url = f"{shared.receiver.url}/backchannel-logout?logout_token={shared.provider.token()}"
    assert shared.receiver.http.post(url, headers=FORM).status_code == 400


def test_a_repeated_token_changes_nothing_and_is_answered_200(shared: SharedReceiver) -> None:
    token = shared.provider.token(sid="repeated")
    assert shared.receiver.post(token).status_code == 200
    before = events(shared)
    assert shared.receiver.post(token).status_code == 200
    assert events(shared) == before


def test_a_sid_ends_that_session_only_and_a_sub_alone_ends_all_of_the_user(
    shared: SharedReceiver,
) -> None:
    """Never both markers for one token: one device's logout would end all devices."""
    provider, iss = shared.provider, shared.provider.issuer
    shared.receiver.post(provider.token(sid="one", sub="bea"))
    assert shared.redis.get(KEYS.sid(iss, "one"))
    assert shared.redis.get(KEYS.sub(iss, "bea")) is None
    shared.receiver.post(provider.token(sid=ABSENT, sub="bea"))
    assert shared.redis.get(KEYS.sub(iss, "bea"))
    assert shared.redis.get(KEYS.sub(iss, "alice-neighbour")) is None


def test_the_marker_is_the_iat_rounded_down(shared: SharedReceiver) -> None:
    now = int(json.loads(json.dumps(shared.provider.claims()))["iat"]) - 5
    shared.receiver.post(shared.provider.token(sid="floor", iat=now + 0.75))
    assert shared.redis.get(KEYS.sid(shared.provider.issuer, "floor")) == str(now)


@pytest.mark.parametrize("path", ["/", "/backchannel-logout/", "/livez", "/readyz", "/metrics"])
def test_the_public_listener_serves_one_path(path: str, shared: SharedReceiver) -> None:
    answer = shared.receiver.http.post(shared.receiver.url + path)
    assert answer.status_code == 404
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_405(method: str, shared: SharedReceiver) -> None:
    answer = shared.receiver.http.request(method, shared.receiver.url + "/backchannel-logout")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert answer.headers["cache-control"] == "no-store"


def test_the_admin_listener_takes_no_tokens(shared: SharedReceiver) -> None:
    answer = shared.receiver.http.post(shared.receiver.admin_url + "/backchannel-logout")
    assert answer.status_code == 404
    assert shared.receiver.http.get(shared.receiver.admin_url + "/livez").status_code == 200


def test_readyz_names_each_issuer(shared: SharedReceiver) -> None:
    body = shared.receiver.readyz().json()
    assert body["ready"] is True
    assert set(body["issuers"]) == {p.issuer for p in shared.providers.values()}


def test_no_token_and_no_user_reaches_the_log(shared: SharedReceiver) -> None:
    """Neither for an accepted token nor for a refused one."""
    good = shared.provider.token(sub="logged-subject", sid="logged-session", jti="logged-jti")
    bad = shared.provider.token(sub="logged-subject", nonce="logged-nonce", aud="logged-aud")
    assert shared.receiver.post(good).status_code == 200
    assert shared.receiver.post(bad).status_code == 400
    refused = {"outcome": "refused", "reason": "aud_unknown"}
    wait_for(lambda: shared.receiver.log_events("logout", **refused), "its line", shared.receiver)
    log = shared.receiver.log
    assert shared.receiver.log_events("logout", outcome="accepted")
    for secret in ("logged-", *good.split("."), *bad.split(".")):
        assert secret not in log


def test_a_connection_can_be_used_again_after_a_refusal(shared: SharedReceiver) -> None:
    ports = set()
    with httpx.Client(base_url=shared.receiver.url) as client:
        for token in ("x", shared.provider.token(), "..", shared.provider.token()):
            answer = client.post("/backchannel-logout", data={"logout_token": token})
            ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(ports) == 1


def test_a_client_that_hangs_up_leaves_no_trace(shared: SharedReceiver) -> None:
    """Half a body, then nothing: no traceback, and the next request is served."""
    host, port = shared.receiver.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as hasty:
        hasty.sendall(
            b"POST /backchannel-logout HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\nlogout_token=ey"
        )
    assert shared.receiver.post(shared.provider.token()).status_code == 200
    assert "Traceback" not in shared.receiver.log


@pytest.mark.slow
def test_a_body_that_never_ends_is_answered_503(shared: SharedReceiver) -> None:
    """The deadline passes before the body is complete."""
    host, port = shared.receiver.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as slow:
        slow.sendall(
            b"POST /backchannel-logout HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\nlogout_token=ey"
        )
        assert slow.recv(1000).startswith(b"HTTP/1.1 503")


def multi_app(redis_url: str, provider: Provider, options: str = "") -> str:
    clients = (
        '[{client_id = "shop-web", app = "shop"}, {client_id = "shop-ios", app = "shop"},'
        f' {{client_id = "forum", max_session_age = "1d"{options}}}]'
    )
    return config(redis_url, f'issuer = "{provider.issuer}"', clients=clients)


@pytest.mark.slow
def test_an_aud_with_several_clients_revokes_for_the_app_of_each(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """One marker and one event for each app, however many of its clients are in ``aud``."""
    receiver = Receiver(tmp_path / "r", multi_app(redis_server.url, provider)).start()
    try:
        token = provider.token(aud=["shop-web", "shop-ios", "forum", "stranger"], sid="s")
        assert receiver.post(token).status_code == 200
    finally:
        receiver.stop()
    with redis_server.client() as client:
        for app, clients, age in (("shop", ["shop-web", "shop-ios"], 30), ("forum", ["forum"], 1)):
            keys = AppKeys(app)
            ((_, event),) = client.xrange(keys.events)
            assert json.loads(event["client_ids"]) == clients
            life = age * 86400 + 3600
            assert life - 60 < client.ttl(keys.sid(provider.issuer, "s")) <= life


@pytest.mark.slow
def test_both_claims_user_widens_the_logout_to_the_user(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """For providers whose ID tokens have no sid; the other app ends the session only."""
    text = multi_app(redis_server.url, provider, ', both_claims = "user"')
    receiver = Receiver(tmp_path / "r", text).start()
    try:
        assert receiver.post(provider.token(aud=["shop-web", "forum"])).status_code == 200
    finally:
        receiver.stop()
    with redis_server.client() as client:
        shop, forum, iss = AppKeys("shop"), AppKeys("forum"), provider.issuer
        assert client.exists(shop.sid(iss, "sid-1"), forum.sub(iss, "alice")) == 2
        assert client.exists(shop.sub(iss, "alice"), forum.sid(iss, "sid-1")) == 0


@pytest.mark.slow
def test_an_alias_is_the_same_issuer_and_every_name_gets_a_marker(
    tmp_path: Path, redis_server: RedisServer, provider: Provider
) -> None:
    """Session and logout may come from different hosts of the provider."""
    alias = "https://login.example"
    issuer = f'issuer = "{provider.issuer}"\naliases = ["{alias}"]'
    receiver = Receiver(tmp_path / "r", config(redis_server.url, issuer)).start()
    try:
        token = provider.token(iss=alias, sid="s")
        assert receiver.post(token).status_code == 200
        assert receiver.post(token).status_code == 200
    finally:
        receiver.stop()
    with redis_server.client() as client:
        assert client.get(KEYS.sid(alias, "s")) == client.get(KEYS.sid(provider.issuer, "s"))
        assert client.exists(KEYS.sid(alias, "s"))
        named = [event["iss"] for _, event in client.xrange(KEYS.events)]
        assert named == [provider.issuer, alias]
