"""An operator has an issuer's keys fetched now: by the API, the console and the command line, in
every receiver on the Redis."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from backchannel_logout import AppKeys
from tests.account.account_fixture import account_client
from tests.admin.api_fixture import ALICE, TOKEN, AdminClient, admin_client, settings
from tests.support.providers.provider import private_key
from tests.support.receiver import Receiver, run_app, wait_for


@pytest.fixture(scope="module")
def other(admin: AdminClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """A second receiver on the same Redis."""
    directory = tmp_path_factory.mktemp("other")
    receiver = Receiver(directory, settings(redis_url(admin), admin.tenant, admin.keys)).start()
    yield receiver
    receiver.stop()


def redis_url(admin: AdminClient) -> str:
    options = admin.redis.connection_pool.connection_kwargs
    if "path" in options:
        return f"unix://{options['path']}"
    return f"redis://{options['host']}:{options['port']}"


def knows(receiver: Receiver, issuer: str, keys: int) -> bool:
    state = receiver.readyz().json()["issuers"][issuer]
    return bool(state["keys"] == keys)


def publish_more_keys(admin: AdminClient) -> int:
    """A key more at the provider, which no token has named yet. Returns how many there are."""
    keys = admin.keys.keys
    keys[f"more-{len(keys)}"] = private_key("RS256", len(keys))
    return len(keys)


def test_the_api_fetches_in_every_receiver(admin: AdminClient, other: Receiver) -> None:
    keys = publish_more_keys(admin)
    answer = admin.post("/keys/fetch", {"issuer": admin.issuer, "reason": "leaked", "by": "Ann"})
    assert answer.status_code == 200
    assert answer.json() == {
        "issuer": admin.issuer, "fetched": True, "error": None, "keys": keys, "skipped_keys": 0,
        "others_asked": True,
    }  # fmt: skip
    assert knows(admin.receiver, admin.issuer, keys)
    wait_for(lambda: knows(other, admin.issuer, keys), "the other receiver has the keys", other)
    (entry,) = [one for one in admin.audit() if one.get("why") == "leaked"]
    assert (entry["act"], entry["who"], entry["iss"]) == ("keys.fetch", "Ann", admin.issuer)


def test_the_receiver_that_was_asked_fetches_once(admin: AdminClient, other: Receiver) -> None:
    before = admin.keys.key_fetches
    admin.post("/keys/fetch", {})
    wait_for(lambda: admin.keys.key_fetches == before + 2, "both have fetched", other)
    # The next request is read after this one.
    admin.post("/keys/fetch", {})
    wait_for(lambda: admin.keys.key_fetches >= before + 4, "both have fetched again", other)
    assert admin.keys.key_fetches == before + 4


def test_a_failed_fetch_is_reported_and_keeps_the_keys(admin: AdminClient) -> None:
    keys = len(admin.keys.keys)
    admin.keys.mode = "500"
    try:
        body = admin.post("/keys/fetch", {"issuer": admin.issuer}).json()
    finally:
        admin.keys.mode = "ok"
    assert (body["fetched"], body["error"], body["keys"]) == (False, "http_500", keys)


@pytest.mark.parametrize(
    ("body", "status"),
    [({"issuer": "https://nobody.example"}, 404), ({"by": "oidc:x"}, 422), ({"iss": "x"}, 422)],
)
def test_requests_that_name_nothing_are_refused(
    body: dict[str, str], status: int, admin: AdminClient
) -> None:
    assert admin.post("/keys/fetch", body).status_code == status
    assert admin.post("/keys/fetch", {}, token=None).status_code == 401


def test_the_console_has_a_button(admin: AdminClient, other: Receiver) -> None:
    http, base = admin.receiver.http, admin.receiver.admin_url
    answer = http.post(base + "/console/sign-in", data={"token": TOKEN})
    cookie = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
    page = http.get(base + "/console/issuers", headers=cookie).text
    csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
    assert "Fetch the keys now" in page
    keys = publish_more_keys(admin)
    fields = {"csrf": csrf, "issuer": admin.issuer}
    path = base + "/console/issuers/fetch"
    assert http.post(path, headers=cookie, data=fields | {"csrf": "x"}).status_code == 403
    answer = http.post(path, headers=cookie, data=fields)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/issuers")
    assert knows(admin.receiver, admin.issuer, keys)
    wait_for(lambda: knows(other, admin.issuer, keys), "the other receiver has the keys", other)


def test_the_command_reaches_every_receiver_without_the_admin_token(
    admin: AdminClient, other: Receiver, tmp_path: Path
) -> None:
    keys = publish_more_keys(admin)
    listen = admin.receiver.admin_url.removeprefix("http://")
    text = settings(redis_url(admin), admin.tenant, admin.keys)
    text = text.replace('admin_listen = "127.0.0.1:0"', f'admin_listen = "{listen}"')
    (tmp_path / "settings.toml").write_text(text)
    ended = run_app(
        "keys", "fetch", "--config", "settings.toml", "--by", "Bob", "--reason", "rotated",
        cwd=tmp_path,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"{keys} keys, fetched just now" in ended.stdout
    wait_for(lambda: knows(other, admin.issuer, keys), "the other receiver has the keys", other)
    (entry,) = [one for one in admin.audit() if one.get("why") == "rotated"]
    assert (entry["act"], entry["who"], entry["iss"]) == ("keys.fetch", "Bob", admin.issuer)


def test_parked_tokens_are_settled_by_it(tmp_path: Path) -> None:
    with admin_client(tmp_path) as admin:
        admin.keys.mode = "500"
        admin.keys.rotate("k2")
        wait_for(
            lambda: admin.receiver.post(admin.keys.token(sid="waits")).status_code == 503,
            "the token waits for keys", admin.receiver,
        )  # fmt: skip
        admin.keys.mode = "ok"
        assert admin.post("/keys/fetch", {}).json()["fetched"]
        marker = AppKeys("shop").sid(admin.issuer, "waits")
        wait_for(lambda: admin.redis.exists(marker), "the logout is written", admin.receiver)


def test_the_users_listener_forgets_a_leaked_key_at_once(tmp_path: Path) -> None:
    """It has keys of its own, and so has the console."""
    with account_client(tmp_path) as account:
        account.user = ALICE
        session = account.tenant.add(ALICE)
        token = account.access_token(session)
        assert account.ask("GET", "", None, token).status_code == 200
        account.keys.keys = {"new": private_key("RS256", 2)}
        assert account.ask("GET", "", None, token).status_code == 200
        headers = {"authorization": f"Bearer {TOKEN}"}
        url = account.receiver.admin_url + "/api/keys/fetch"
        answer = account.receiver.http.post(url, json={}, headers=headers)
        assert answer.json()["fetched"]
        # 503: the key may be a new one, until it has been looked for once more.
        assert account.ask("GET", "", None, token).status_code in {401, 503}
