"""`remember` and `Session`: the login of an app's session."""

import json
from typing import Any

import pytest

from backchannel_logout import Session, SessionNotIdentified, remember
from backchannel_logout.contract.session import MEMBER, SESSION_MEMBERS, forget

CLAIMS = {
    "iss": "https://op.example/",
    "sub": "alice",
    "sid": "sid-1",
    "iat": 1795283041,
    "aud": "shop-web",
    "nonce": "n",
}
REMEMBERED = {
    "iss": "https://op.example/",
    "sub": "alice",
    "sid": "sid-1",
    "login_at": 1795283041,
}
CLIENT = {"client_id": "shop-web"}


def stored(**changes: Any) -> dict[str, Any]:
    """A session of the app after `remember`."""
    return {MEMBER: REMEMBERED | CLIENT | changes}


def test_a_login_is_remembered_in_one_member_and_nothing_else_is_touched() -> None:
    """The app's own sid, sub, iss and login_at are not touched."""
    own = {"cart": [1, 2], "sid": "cart-17", "sub": 5, "iss": "newsletter", "login_at": "today"}
    session = dict(own)
    remember(session, CLAIMS)
    assert session == own | stored()
    assert json.loads(json.dumps(session)) == session
    assert Session.from_mapping(session) == Session(**REMEMBERED, **CLIENT)
    assert {*REMEMBERED, *CLIENT, "auth_time"} == {*SESSION_MEMBERS}


@pytest.mark.parametrize(
    ("auth_time", "remembered"), [(1795282441, 1795282441), (1795282441.9, 1795282441), (-0.5, -1)]
)
def test_when_the_user_signed_in_is_remembered_too(auth_time: float, remembered: int) -> None:
    session: dict[str, Any] = {}
    remember(session, CLAIMS | {"auth_time": auth_time})
    assert session == stored(auth_time=remembered)
    assert type(session[MEMBER]["auth_time"]) is int
    assert Session.from_mapping(session).auth_time == remembered


@pytest.mark.parametrize(
    "auth_time", [None, True, "1795282441", float("nan"), float("inf"), [1795282441], {}]
)
def test_an_auth_time_that_is_no_number_is_ignored(auth_time: Any) -> None:
    """It is optional: a login is not refused for it, even if the app added it."""
    session: dict[str, Any] = {}
    remember(session, CLAIMS | {"auth_time": auth_time})
    assert session == stored()
    assert Session.from_mapping(stored(auth_time=auth_time)).auth_time is None


def test_a_new_login_without_auth_time_leaves_none_of_the_earlier_one() -> None:
    session: dict[str, Any] = {}
    remember(session, CLAIMS | {"auth_time": CLAIMS["iat"] - 5})
    remember(session, CLAIMS | {"iat": CLAIMS["iat"] + 3600})
    assert session == stored(login_at=CLAIMS["iat"] + 3600)


def test_a_remembered_login_is_a_session() -> None:
    session: dict[str, Any] = {}
    remember(session, CLAIMS)
    assert Session.from_mapping(session) == Session(
        iss="https://op.example/",
        sub="alice",
        sid="sid-1",
        login_at=1795283041,
        client_id="shop-web",
    )


def test_the_same_claims_again_change_nothing() -> None:
    session: dict[str, Any] = {}
    remember(session, CLAIMS)
    before = dict(session)
    remember(session, CLAIMS)
    assert session == before


def test_a_refresh_that_is_not_remembered_leaves_login_at() -> None:
    """An app that stores the newest ID token does not move the login."""
    session: dict[str, Any] = {}
    remember(session, CLAIMS)
    session["id_token_claims"] = CLAIMS | {"iat": CLAIMS["iat"] + 3600}
    assert Session.from_mapping(session).login_at == CLAIMS["iat"]


def test_a_refresh_that_is_remembered_by_mistake_changes_nothing_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With `auth_time`, a newer iat revives nothing."""
    session: dict[str, Any] = {}
    claims = CLAIMS | {"auth_time": CLAIMS["iat"] - 5}
    remember(session, claims)
    before = dict(session)
    remember(session, claims | {"iat": CLAIMS["iat"] + 3600})
    assert session == before
    assert "login_at stays as it is" in caplog.text


@pytest.mark.parametrize("auth_time", [{}, {"auth_time": CLAIMS["iat"] + 3599}])
def test_a_new_login_may_have_the_same_sid(auth_time: dict[str, int]) -> None:
    """Keycloak reused one after an administrator's sign-out."""
    session: dict[str, Any] = {}
    remember(session, CLAIMS)
    remember(session, CLAIMS | {"iat": CLAIMS["iat"] + 3600} | auth_time)
    assert session[MEMBER]["login_at"] == CLAIMS["iat"] + 3600


def test_a_new_login_replaces_the_one_before() -> None:
    """Also if the new claims have no sid: the old one would name another session."""
    session: dict[str, Any] = {}
    remember(session, CLAIMS)
    remember(session, {"iss": "https://other.example", "sub": "bob", "iat": 1795289999})
    assert session == {
        MEMBER: {
            "iss": "https://other.example",
            "sub": "bob",
            "sid": None,
            "login_at": 1795289999,
        }
    }


class AssignmentRecorder(dict[str, Any]):
    """Like frameworks' sessions, which are saved after an assignment."""

    assigned = 0

    def __setitem__(self, key: str, value: Any) -> None:
        self.assigned += 1
        super().__setitem__(key, value)


def test_each_login_is_assigned_so_that_the_session_is_saved() -> None:
    session = AssignmentRecorder()
    remember(session, CLAIMS)
    first = session[MEMBER]
    remember(session, CLAIMS | {"sid": "sid-2"})
    assert session.assigned == 2
    assert first == REMEMBERED | CLIENT, "the one before was not changed in place"


def test_a_login_of_an_earlier_release_is_read_at_the_top_of_the_session() -> None:
    """Sessions live for weeks: an upgrade must not leave them unprotected."""
    session = {"cart": 1, "client_id": "a customer of the app", **REMEMBERED}
    assert Session.from_mapping(session) == Session(**REMEMBERED)
    remember(session, CLAIMS | {"sub": "bob"})
    assert session == {"cart": 1, "client_id": "a customer of the app"} | stored(sub="bob")


def test_a_refresh_of_a_login_of_an_earlier_release_is_refused_too() -> None:
    session = {"cart": 1, **REMEMBERED}
    newer = {"iat": CLAIMS["iat"] + 3600, "auth_time": CLAIMS["iat"] - 5}
    remember(session, CLAIMS | newer)
    assert session == {"cart": 1, **REMEMBERED}


@pytest.mark.parametrize(
    "own",
    [
        {"iss": "newsletter", "login_at": 17},
        {"sid": "cart-17", "sub": "alice"},
        REMEMBERED | {"login_at": "yesterday"},
        {"iss": None, "sid": None, "sub": None, "login_at": 5},
    ],
)
def test_members_of_the_apps_own_stay_at_a_login(own: dict[str, Any]) -> None:
    """An earlier release stored all four members, which identify a login."""
    session = dict(own)
    remember(session, CLAIMS)
    assert session == own | stored()
    forget(session)
    assert session == own


def test_the_last_remembered_login_counts() -> None:
    session = stored(sid="sid-2") | REMEMBERED
    assert Session.from_mapping(session).sid == "sid-2"
    remember(session, CLAIMS)
    assert session == stored() | REMEMBERED


@pytest.mark.parametrize("wrong", ["sid-1", 5, [REMEMBERED], True, {}, {"iss": "x"}])
def test_a_member_that_is_not_ours_names_no_login(wrong: Any) -> None:
    """Also with a login of an earlier release: nothing is guessed."""
    session = {MEMBER: wrong, **REMEMBERED}
    with pytest.raises(SessionNotIdentified):
        Session.from_mapping(session)
    remember(session, CLAIMS)
    assert session[MEMBER] == REMEMBERED | CLIENT


@pytest.mark.parametrize(
    ("iat", "login_at"),
    [
        (1795283041, 1795283041),
        (1795283041.0, 1795283041),
        (1795283041.999, 1795283041),
        (-0.5, -1),
    ],
)
def test_a_fraction_of_iat_is_rounded_down(iat: float, login_at: int) -> None:
    """Like the receiver's cutoff: otherwise the same second would not compare equal."""
    session: dict[str, Any] = {}
    remember(session, CLAIMS | {"iat": iat})
    assert session[MEMBER]["login_at"] == login_at
    assert type(session[MEMBER]["login_at"]) is int


NOW = 1_795_300_000

ABSENT = object()

BAD_CLAIMS = {
    "no iat": ("iat", ABSENT),
    "iat null": ("iat", None),
    "iat true": ("iat", True),
    "iat a string": ("iat", "1795283041"),
    "iat NaN": ("iat", float("nan")),
    "iat infinite": ("iat", float("inf")),
    "iat an array": ("iat", [1795283041]),
    "no iss": ("iss", ABSENT),
    "iss null": ("iss", None),
    "iss empty": ("iss", ""),
    "iss a number": ("iss", 5),
    "iss with a lone surrogate": ("iss", "https://op.example/\ud800"),
    "sub a number": ("sub", 5),
    "sub an object": ("sub", {}),
    "sub with a lone surrogate": ("sub", "\udfff"),
    "sid a number": ("sid", 5),
    "sid true": ("sid", True),
    "sid bytes": ("sid", b"sid-1"),
}


@pytest.mark.parametrize(("claim", "value"), BAD_CLAIMS.values(), ids=BAD_CLAIMS)
def test_bad_claims_are_refused_and_the_session_stays_as_it_was(claim: str, value: Any) -> None:
    session: dict[str, Any] = {"cart": 1, **REMEMBERED}
    claims = CLAIMS | {claim: value}
    if value is ABSENT:
        del claims[claim]
    with pytest.raises(SessionNotIdentified):
        remember(session, claims)
    assert session == {"cart": 1, **REMEMBERED}


@pytest.mark.parametrize("iat", [NOW + 86_401, NOW * 1000, 10**30, 10**400, NOW * 1000.0])
def test_a_login_more_than_a_day_ahead_is_refused(iat: float) -> None:
    """No logout would ever reach it; a clock that is wrong by hours is tolerated."""
    session: dict[str, Any] = {"cart": 1}
    with pytest.raises(SessionNotIdentified, match="milliseconds"):
        remember(session, CLAIMS | {"iat": iat}, clock=lambda: NOW)
    assert session == {"cart": 1}
    remember(session, CLAIMS | {"iat": NOW + 86_400}, clock=lambda: NOW)
    assert session[MEMBER]["login_at"] == NOW + 86_400


WRONG_INPUTS = {
    "userinfo": ({"sub": "alice", "name": "Alice"}, "no iss and no iat.*userinfo"),
    "a token": ("eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "this is a token, not its claims"),
    "bytes": (b"eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "this is a token, not its claims"),
    "nothing": (None, "are a mapping"),
}


@pytest.mark.parametrize(("given", "message"), WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_anything_but_the_claims_of_an_id_token_is_named(given: Any, message: str) -> None:
    session: dict[str, Any] = {}
    with pytest.raises(SessionNotIdentified, match=message):
        remember(session, given)
    assert session == {}


def test_a_newer_token_of_the_same_login_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A refresh looks like a login that did not clear the session, so it is logged."""
    session: dict[str, Any] = {}
    remember(session, CLAIMS)
    remember(session, CLAIMS)
    assert caplog.text == ""
    remember(session, CLAIMS | {"iat": CLAIMS["iat"] + 3600})
    assert "in a session that was not cleared" in caplog.text
    cleared: dict[str, Any] = {}
    caplog.clear()
    remember(cleared, CLAIMS | {"iat": CLAIMS["iat"] + 7200})
    assert caplog.text == ""


@pytest.mark.parametrize(
    "session",
    [
        {},
        {"user": "alice"},
        {name: value for name, value in REMEMBERED.items() if name != "login_at"},
        {name: value for name, value in REMEMBERED.items() if name != "iss"},
        REMEMBERED | {"login_at": "1795283041"},
        REMEMBERED | {"login_at": 1795283041.5},
        REMEMBERED | {"login_at": True},
        REMEMBERED | {"sid": 5},
        REMEMBERED | {"sub": ["alice"]},
    ],
    ids=[
        "empty", "not remembered", "no login_at", "no iss", "login_at text", "login_at fraction",
        "login_at true", "sid number", "sub array",
    ],
)  # fmt: skip
def test_a_mapping_without_a_login_is_no_session(session: dict[str, Any]) -> None:
    """A mistake of the app: the session is neither alive nor dead."""
    for one in (session, {MEMBER: session}):
        with pytest.raises(SessionNotIdentified):
            Session.from_mapping(one)
