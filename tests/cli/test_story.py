"""``python -m app story``: its output for people and programs, and pasted tokens."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO, TextIOWrapper
from typing import Any

import pytest

from app.canary.issuer import ISSUER as CANARY
from app.cli.story import APP_STATUSES
from backchannel_logout import AppKeys, AppStatus, Outcome, Receipt
from tests.cli.conftest import Ended, Run
from tests.support.providers.provider import encode_parts
from tests.support.receiver import config
from tests.support.revocations import ISS, new_app, revocation
from tests.support.servers.redis_server import RedisServer, free_port

Story = Callable[..., Ended]


class App:
    """An app of this test, with unverified events."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.name = new_app()
        self.keys = AppKeys(self.name)
        self.look: Any = server.client()
        self.look.hset(self.keys.meta, mapping={"v": "1", "max_session_age": "3600"})
        clients = f'[{{client_id = "shop-web", app = "{self.name}"}}]'
        self.config = config(server.url, f'issuer = "{ISS}"', clients=clients)

    def end(self, **changes: object) -> str:
        """Marker and event, as the script writes them; returns the event's id."""
        one = revocation(self.name, since=time.time(), **changes)
        for key in one.marker_keys:
            self.look.set(key, one.event.cutoff, ex=7200)
        added: str = self.look.xadd(self.keys.events, one.event.to_fields())
        return added


@pytest.fixture
def app(shared_redis: RedisServer) -> App:
    return App(shared_redis)


def paste(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    raw = text.encode() if isinstance(text, str) else text
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(raw)))


def id_token(**claims: object) -> str:
    return encode_parts({"alg": "RS256"}, claims, lambda _: b"never looked at")


def test_an_ended_session_shows_its_end_the_event_and_which_apps_have_acted(
    run: Run, app: App
) -> None:
    event = app.end()
    receipt = Receipt(event=event, listener="", reader="r", seconds=0.031, outcome=Outcome.DONE)
    app.look.xadd(app.keys.receipts, receipt.to_fields())
    ended = run("story", app.config, "--sid", "s1", "--sub", "alice")
    assert (ended.status, ended.err) == (0, "")
    complete = "Complete: every app with an event has acted."
    assert ended.out.startswith(f"session s1, user alice, of {ISS}\n{complete}\n\n")
    assert f"{app.name}: DEAD if it logged in at or before 20" in ended.out
    assert "  marker     session, up to 20" in ended.out
    assert "  ended by   session  sid s1  sub alice  iss https://op.example  source " in ended.out
    assert f"; event {event}\n" in ended.out
    assert "torn_down: a listener has handled it; handled 0.031 s after its arrival" in ended.out


def test_a_session_of_the_canary_has_a_story_and_cannot_be_ended_manually(
    run: Run, app: App
) -> None:
    bird = App(app.server)
    bird.end(issuer_names=(CANARY,), sid="c1", sub=None)
    text = f'{app.config}\n[canary]\napp = "{bird.name}"\n'
    ended = run("story", text, "--issuer", CANARY, "--sid", "c1")
    assert (ended.status, ended.err) == (0, "")
    assert f"{bird.name}: DEAD if it logged in at or before 20" in ended.out
    # It is not among the apps that are meant if none is named, and cannot be ended manually.
    assert bird.name not in run("story", text, "--sid", "c1").out
    ended = run("revoke", text, "--issuer", CANARY, "--sid", "c1", "--reason", "why")
    assert ended.status == 2
    assert "--issuer is none of the settings" in ended.err
    # Without a canary, the app is unknown.
    assert run("story", app.config, "--issuer", CANARY, "--sid", "c1").status == 2


def test_an_unknown_id_is_not_called_alive(run: Run, app: App) -> None:
    app.end(sid="s1", sub=None)
    ended = run("story", app.config, "--sid", "S1", "--sub", "alice")
    assert ended.status == 0
    assert "\nNothing is known of this id: " in ended.out
    assert ended.out.endswith(f"\n{app.name}: nothing is known of it here: no marker, no event\n")
    assert "alive" not in ended.out.replace("user alice", "")


def test_a_missing_user_is_reported_as_incomplete(run: Run, app: App) -> None:
    assert "without the user (--sub)" in run("story", app.config, "--sid", "s1").out


def test_a_lost_marker_and_a_trimmed_event_are_reported(run: Run, app: App) -> None:
    app.end()
    (marker,) = revocation(app.name).marker_keys
    value = app.look.getdel(marker)
    assert "  LOST       an event says that" in run("story", app.config, "--sid", "s1").out
    app.look.set(marker, value)
    app.look.xtrim(app.keys.events, maxlen=0, approximate=False)
    assert "an event older than the stream holds" in run("story", app.config, "--sid", "s1").out


def test_json_has_the_query_and_each_apps_answer(run: Run, app: App) -> None:
    event = app.end()
    login_at = int(time.time()) - 60
    ended = run("story", app.config, "--sub", "alice", "--login-at", str(login_at), "--json")
    answer = json.loads(ended.out)
    assert answer["question"] == {
        "iss": ISS, "sid": None, "sub": "alice", "login_at": login_at, "auth_time": None,
    }  # fmt: skip
    assert answer["unverified"] is False
    (story,) = answer["apps"]
    assert (story["app"], story["state"], story["cause"]) == (app.name, "alive", None)
    assert [(one["id"], one["covers"]) for one in story["events"]] == [(event, False)]


def test_a_pasted_id_token_names_the_session_and_is_not_trusted(
    run: Run, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.end()
    iat = time.time() - 100.5
    paste(monkeypatch, id_token(iss=ISS, sid="s1", sub="alice", iat=iat) + "\n")
    ended = run("story", app.config, "--id-token-stdin", "--json")
    assert ended.status == 0
    assert ended.err == "the token was not verified: its claims are taken as they stand\n"
    answer = json.loads(ended.out)
    assert answer["unverified"] is True
    assert answer["question"]["login_at"] == int(iat)
    assert answer["apps"][0]["state"] == "revoked"


@pytest.mark.parametrize(("signed_in", "state"), [(-600, "revoked"), (30, "alive")])
def test_a_pasted_id_token_gives_the_time_of_the_login(
    signed_in: int, state: str, run: Run, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session of a code from before the logout is dead, as it is in the app."""
    app.end()
    (marker,) = revocation(app.name).marker_keys
    cutoff = int(app.look.get(marker))
    claims = {"iss": ISS, "sid": "s1", "sub": "alice", "iat": cutoff + 30}
    paste(monkeypatch, id_token(**claims, auth_time=cutoff + signed_in))
    answer = json.loads(run("story", app.config, "--id-token-stdin", "--json").out)
    assert answer["question"]["auth_time"] == cutoff + signed_in
    assert answer["apps"][0]["state"] == state


GOOD = {"iss": ISS, "sid": "s1", "sub": "alice", "iat": 1}
BAD: dict[str, object] = {
    "rubbish": "rubbish",
    "bytes that are no text": b"\xff\xfe",
    "nothing": "",
    "no issuer": id_token(sid="s1", iat=1),
    "an issuer that is a number": id_token(**GOOD | {"iss": 1}),
    "nobody": id_token(iss=ISS, iat=1),
    "an empty sid": id_token(**GOOD | {"sid": ""}),
    "no iat": id_token(iss=ISS, sid="s1"),
    "an iat that is true": id_token(**GOOD | {"iat": True}),
    "another issuer": id_token(**GOOD | {"iss": ISS + "/"}),
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD)
def test_a_token_without_useful_claims_is_wrong_usage(
    token: str | bytes, run: Run, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    paste(monkeypatch, token)
    ended = run("story", app.config, "--id-token-stdin")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines()[-1].startswith("python -m app story: ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--sid", "s1", "--app", "another"],
        ["--sid", "s1", "--issuer", "https://other.example"],
        ["--sid", "s1", "--id-token-stdin"],
    ],
    ids=" ".join,
)
def test_contradictory_arguments_are_exit_status_2(
    arguments: list[str], run: Run, app: App
) -> None:
    ended = run("story", app.config, *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("python -m app story: ")


def test_without_an_issuer_the_issuers_that_know_the_id_are_found(run: Run, app: App) -> None:
    """If one matches, it is used; several require a choice; without any, nothing is known."""
    clients = f'[{{client_id = "shop-web", app = "{app.name}"}}]'
    names = (ISS, "https://b.example")
    text = config(app.server.url, *(f'issuer = "{one}"' for one in names), clients=clients)
    ended = run("story", text, "--sid", "s1")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("session s1, of any issuer\nNothing is known of this id: ")
    app.end(issuer_names=("https://b.example",), sid="s1", sub=None)
    ended = run("story", text, "--sid", "s1")
    assert (ended.status, ended.err) == (0, "")
    assert f"{app.name}: DEAD if it logged in at or before 20" in ended.out
    ended = run("story", text, "--sid", "s1", "--issuer", ISS)
    assert "\nanother issuer knows it: https://b.example\n" in ended.out
    app.end(sid="s1", sub=None)
    ended = run("story", text, "--sid", "s1")
    assert (ended.status, ended.out) == (2, "")
    assert "several issuers know it" in ended.err
    assert run("story", text, "--sid", "s1", "--issuer", "https://b.example").status == 0


def test_without_redis_no_issuer_is_ruled_out(run: Run) -> None:
    text = config(
        f"redis://127.0.0.1:{free_port()}/0", f'issuer = "{ISS}"', 'issuer = "https://b.example"'
    )
    ended = run("story", text, "--sid", "s1")
    assert ended.status == 1
    assert "Unknown: not every app can be read" in ended.out


@pytest.mark.parametrize("form", ["{0}", "{0}123", "{1}", "{2}"])
def test_a_login_time_is_given_in_seconds_milliseconds_or_as_a_date(
    form: str, run: Run, app: App
) -> None:
    app.end(sid="s1")
    login = int(time.time()) - 60
    when = datetime.fromtimestamp(login, UTC)
    text = form.format(login, when.isoformat(), when.strftime("%Y-%m-%d %H:%M:%S UTC"))
    ended = run("story", app.config, "--sid", "s1", "--login-at", text, "--json")
    answer = json.loads(ended.out)
    assert answer["question"]["login_at"] == login
    assert answer["apps"][0]["state"] == "revoked"


@pytest.mark.parametrize("said", ["soon", "-5", "1796056750123456", "nan", "inf", ""])
def test_an_invalid_login_time_is_refused_with_the_valid_forms(
    said: str, run: Run, app: App
) -> None:
    with pytest.raises(SystemExit):
        run("story", app.config, "--sid", "s1", f"--login-at={said}")


def test_an_unreachable_redis_is_exit_status_1(run: Run) -> None:
    text = config(f"redis://127.0.0.1:{free_port()}/0", f'issuer = "{ISS}"')
    ended = run("story", text, "--sid", "s1")
    assert (ended.status, ended.err) == (1, "")
    assert "shop: cannot be read from Redis (ConnectionError)" in ended.out


def test_control_sequences_are_escaped(run: Run, app: App) -> None:
    hostile = "a\x1b[2J\nb"
    app.end(sid=hostile)
    ended = run("story", app.config, "--sid", hostile)
    assert "\x1b" not in ended.out
    assert r'"a\u001b[2J\nb"' in ended.out


def test_every_status_has_a_sentence() -> None:
    assert APP_STATUSES.keys() == set(AppStatus)


def test_a_login_after_the_logout_is_alive(run: Run, app: App) -> None:
    app.end(sid="s1")
    later = str(int(time.time()) + 3600)
    ended = run("story", app.config, "--sid", "s1", "--login-at", later)
    assert "alive, its login is later than every marker" in ended.out
    assert "Not ended: this login is later than every logout of it." in ended.out
    assert "  marker     session, up to " in ended.out
    assert "ended by" not in ended.out


@pytest.mark.parametrize("command", ["story", "revoke", "watch"])
def test_an_argument_that_is_not_text_is_wrong_usage(command: str, run: Run, app: App) -> None:
    needed = ("--reason", "lost") if command == "revoke" else ()
    no_text = b"\xff".decode(errors="surrogateescape")
    ended = run(command, app.config, "--sid", no_text, *needed)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "python -m app: an argument is not UTF-8 text\n"
