"""`contract/vectors.json`, which implementers in other languages use, against this package."""

import base64
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from backchannel_logout import (
    AppKeys,
    AppStatus,
    Event,
    GuardMisconfigured,
    MalformedEvent,
    Reader,
    Receipt,
    RevocationUnknown,
    Session,
    SessionNotIdentified,
    UnknownEvent,
    decide,
    digest,
    marker_keys,
    prove,
    remember,
)
from backchannel_logout.checker import RevocationChecker
from backchannel_logout.contract.decision import sid_marker
from backchannel_logout.contract.keys import VERSION
from backchannel_logout.contract.session import MEMBER

VECTORS: dict[str, Any] = json.loads(
    Path(__file__).parents[3].joinpath("contract/vectors.json").read_text("utf-8")
)

REFUSALS = {"unknown": UnknownEvent, "malformed": MalformedEvent}


def cases(table: list[dict[str, Any]]) -> pytest.MarkDecorator:
    """One test per case, with the case's name."""
    return pytest.mark.parametrize("case", table, ids=[case["name"] for case in table])


def plain_hash(first: str, second: str) -> str:
    """An independent ``h``, from the hexadecimal digits."""
    digits = hashlib.sha256(first.encode("utf-8") + b"\n" + second.encode("utf-8")).hexdigest()[:32]
    encoded = base64.b64encode(bytes.fromhex(digits)).decode("ascii")
    return encoded.translate(str.maketrans({"+": "-", "/": "_", "=": None}))


def test_the_vectors_are_of_this_version_and_no_two_cases_have_one_name() -> None:
    assert VECTORS["v"] == VERSION
    for part in (
        VECTORS["h"]["cases"],
        VECTORS["keys"]["cases"],
        VECTORS["app_names"]["cases"],
        VECTORS["remember"]["cases"],
        VECTORS["events"]["readable"] + VECTORS["events"]["refused"],
        VECTORS["decisions"]["cases"],
        VECTORS["stories"]["cases"],
        VECTORS["issuers"]["cases"],
        VECTORS["reports"]["cases"],
        VECTORS["proofs"]["cases"],
    ):
        names = [case["name"] for case in part]
        assert len(names) == len(set(names)) > 5


def test_the_published_hash_equals_sha256sum() -> None:
    """printf 'https://op.example/\\n' | sha256sum begins with ebb0825178ed742262b34b5113414c6f."""
    expected = base64.urlsafe_b64encode(bytes.fromhex("ebb0825178ed742262b34b5113414c6f"))
    assert digest("https://op.example/", "") == expected.decode().rstrip("=")
    assert digest("https://op.example/", "") == "67CCUXjtdCJis0tRE0FMbw"


@cases(VECTORS["h"]["cases"])
def test_h(case: dict[str, Any]) -> None:
    """The package and plain hashlib both compute the hash of the vector."""
    assert plain_hash(case["first"], case["second"]) == case["h"]
    assert digest(case["first"], case["second"]) == case["h"]


KEY_OF: dict[str, Callable[[AppKeys, dict[str, Any]], str]] = {
    "sid": lambda keys, case: keys.sid(case["iss"], case["sid"]),
    "sub": lambda keys, case: keys.sub(case["iss"], case["sub"]),
    "all": lambda keys, case: keys.all(case["iss"]),
    "jti": lambda keys, case: keys.jti(case["iss"], case["jti"], case["sid"], case["sub"]),
    "events": lambda keys, _: keys.events,
    "feed": lambda keys, _: keys.feed,
    "meta": lambda keys, _: keys.meta,
}


@cases(VECTORS["keys"]["cases"])
def test_key(case: dict[str, Any]) -> None:
    """The package computes the key of the vector, with the same hash as plain hashlib."""
    kind, key = case["kind"], case["key"]
    assert KEY_OF[kind](AppKeys(case["app"]), case) == key
    hashed = {
        "sid": lambda: plain_hash(case["iss"], case["sid"]),
        "sub": lambda: plain_hash(case["iss"], case["sub"]),
        "all": lambda: plain_hash(case["iss"], ""),
        "jti": lambda: plain_hash(
            case["iss"], f"{case['jti']}\n{case['sid'] or ''}\n{case['sub'] or ''}"
        ),
    }
    end = f":{hashed[kind]()}" if kind in hashed else ""
    assert key == f"bcl:v1:{{{case['app']}}}:{kind}{end}"


def test_every_kind_of_key_has_a_vector() -> None:
    assert {case["kind"] for case in VECTORS["keys"]["cases"]} == KEY_OF.keys()


@cases(VECTORS["app_names"]["cases"])
def test_app_name(case: dict[str, Any]) -> None:
    """Names that could address another app's keys are refused."""
    if case["valid"]:
        assert AppKeys(case["app"]).app == case["app"]
    else:
        with pytest.raises(ValueError, match="not a relying app's name"):
            AppKeys(case["app"])


# -- what an app remembers ------------------------------------------------------------------


@cases(VECTORS["remember"]["cases"])
def test_remember(case: dict[str, Any]) -> None:
    """One new member in the app's session, or none."""
    session: dict[str, Any] = {"cart": 3}
    if case["remembered"] is None:
        with pytest.raises(SessionNotIdentified):
            remember(session, case["claims"], clock=lambda: VECTORS["remember"]["now"])
        assert session == {"cart": 3}
    else:
        remember(session, case["claims"], clock=lambda: VECTORS["remember"]["now"])
        assert session == {"cart": 3, MEMBER: case["remembered"]}


# -- events --------------------------------------------------------------------------------


def members_of(event: Event) -> dict[str, Any]:
    """The event as in a vector, without absent members."""
    found = {"v": VERSION, **asdict(event), "kind": event.kind.value}
    found["client_ids"] = list(event.client_ids)
    return {name: value for name, value in found.items() if value not in (None, [], False)}


@cases(VECTORS["events"]["readable"])
def test_event_is_read_alike_from_the_stream_and_from_the_channel(case: dict[str, Any]) -> None:
    entry_id = case["members"]["id"]
    as_bytes = {name.encode(): value.encode() for name, value in case["fields"].items()}
    for event in (
        Event.from_json(case["json"]),
        Event.from_json(case["json"].encode()),
        Event.from_fields(case["fields"], entry_id),
        Event.from_fields(as_bytes, entry_id.encode()),
    ):
        assert members_of(event) == case["members"]


@cases(VECTORS["events"]["readable"])
def test_event_is_written_so_that_it_can_be_read(case: dict[str, Any]) -> None:
    event = Event.from_json(case["json"])
    assert Event.from_fields(event.to_fields(), event.id) == event
    known = case["members"].keys() - {"id"}
    stream = {name: json.loads(case["fields"][name]) for name in known & JSON_FIELDS}
    stream |= {name: case["fields"][name] for name in known - JSON_FIELDS}
    assert stream == {name: case["members"][name] for name in known}
    written = {"id": event.id, **json.loads(event.to_json())}
    assert written == case["members"]


JSON_FIELDS = {"v", "cutoff", "received_at", "client_ids", "revoke_offline_access"}


@cases(VECTORS["events"]["refused"])
def test_event_is_refused(case: dict[str, Any]) -> None:
    """With the vector's class, never with another exception."""
    expected = REFUSALS[case["expect"]]
    assert "fields" in case or "json" in case
    if "fields" in case:
        with pytest.raises(expected):
            Event.from_fields(case["fields"], "1795283041000-0")
    if "json" in case:
        with pytest.raises(expected):
            Event.from_json(case["json"])


def test_both_refusals_are_value_errors() -> None:
    """A reader that treats them alike, as it should, catches one class."""
    assert all(issubclass(refusal, ValueError) for refusal in REFUSALS.values())


@pytest.mark.parametrize(
    "message",
    [b"\xff\xfe", b'{"v":1,"kind":"\xff"}', b"\x00", "[" * 100_000, '{"v":' + "9" * 5000 + "}"],
    ids=["UTF-16 mark", "not UTF-8", "NUL", "deep", "a number of 5000 digits"],
)
def test_no_message_breaks_a_reader(message: str | bytes) -> None:
    with pytest.raises((MalformedEvent, UnknownEvent)):
        Event.from_json(message)
    good = VECTORS["events"]["readable"][0]["fields"]
    with pytest.raises(MalformedEvent):
        Event.from_fields({**good, "cutoff": message})


def test_a_number_of_400_digits_is_malformed() -> None:
    """Python's integers are unbounded; the float of received_at is not."""
    good = VECTORS["events"]["readable"][0]["fields"]
    with pytest.raises(MalformedEvent):
        Event.from_fields({**good, "received_at": "9" * 400})


# -- the decision --------------------------------------------------------------------------


@cases(VECTORS["decisions"]["cases"])
def test_decision(case: dict[str, Any]) -> None:
    """From the existing keys to the verdict, with markers in any order, as text or bytes."""
    session = Session(**case["session"])
    assert Session.from_mapping(case["session"]) == session
    wanted = marker_keys(AppKeys(VECTORS["decisions"]["app"]), session)
    assert 1 <= len(wanted) <= 3
    found = [case["redis"].get(key) for key in wanted]
    as_bytes = [None if value is None else value.encode() for value in found]
    limits = {"max_session_age": VECTORS["decisions"]["max_session_age"], "now": case["now"]}
    own = sid_marker(session, found)
    own_as_bytes = sid_marker(session, as_bytes)
    for markers, sid in ((found, own), (found[::-1], own), (as_bytes, own_as_bytes)):
        if case["verdict"] == "unreadable":
            with pytest.raises(ValueError, match="not a whole number"):
                decide(session, markers, sid_marker=sid, **limits)
        else:
            assert decide(session, markers, sid_marker=sid, **limits).value == case["verdict"]


def test_every_verdict_has_a_vector() -> None:
    verdicts = {case["verdict"] for case in VECTORS["decisions"]["cases"]}
    assert verdicts == {"alive", "revoked", "expired", "unreadable"}


# -- one session, step by step ----------------------------------------------------------------


@cases(VECTORS["stories"]["cases"])
def test_story(case: dict[str, Any]) -> None:
    """A refresh stores nothing, so nothing is called for it."""
    session: dict[str, Any] = {}
    redis: dict[str, str] = {}
    for step in case["steps"]:
        match step:
            case {"login": claims}:
                remember(session, claims, clock=lambda: claims["iat"])
            case {"refresh": claims}:
                assert claims["iat"] > session[MEMBER]["login_at"]
            case {"write": markers}:
                redis |= markers
            case {"check": verdict, "now": now}:
                asked = Session.from_mapping(session)
                found = [
                    redis.get(key)
                    for key in marker_keys(AppKeys(VECTORS["decisions"]["app"]), asked)
                ]
                age = VECTORS["decisions"]["max_session_age"]
                decided = decide(
                    asked, found, max_session_age=age, now=now, sid_marker=sid_marker(asked, found)
                )
                assert decided.value == verdict
            case _:
                raise AssertionError(f"not a step: {step}")


# -- has it arrived? ------------------------------------------------------------------------


@cases(VECTORS["issuers"]["cases"])
def test_a_session_must_be_of_a_served_issuer_and_client(case: dict[str, Any]) -> None:
    """Also with `allow`: a session that cannot be ended is never alive."""
    reading = RevocationChecker("shop", "allow", None, time.time)
    client_id = case.get("client_id")
    session = Session(case["iss"], login_at=1795283041, sub="alice", client_id=client_id)
    question = reading.query([session])
    answers = [[None, None], "3600", case["issuers"], case.get("client_ids")]
    if case["expect"] == "served":
        assert reading.markers(answers, question, single=False) == [None, None]
        return
    expected = {"not_served": GuardMisconfigured, "unreadable": RevocationUnknown}[case["expect"]]
    with pytest.raises(RevocationUnknown) as raised:
        reading.markers(answers, question, single=False)
    assert type(raised.value) is expected


@cases(VECTORS["reports"]["cases"])
def test_an_app_without_a_near_cache_reports(case: dict[str, Any]) -> None:
    """With its check, and the report can be parsed again."""
    reading = RevocationChecker(VECTORS["reports"]["app"], "deny", None, lambda: case["at"])
    sessions = [Session(**one, login_at=1795283041) for one in case["sessions"]]
    question = [reading.query([one]) for one in sessions][-1]
    hset, expire = reading.commands(question, single=False, report=True)[-2:]
    wanted = case["commands"][0][3]
    assert [[*hset[:3], wanted], [*expire]] == case["commands"]
    assert json.loads(str(hset[3])) == json.loads(wanted)
    report = Reader.from_json("asks", wanted)
    assert report is not None
    assert json.loads(report.to_json()) == json.loads(wanted)


@cases(VECTORS["proofs"]["cases"])
def test_proof(case: dict[str, Any]) -> None:
    """An app's own reports show how far it is with a logout."""
    readers = [Reader.from_json(name, text) for name, text in case["readers"].items()]
    receipts = [Receipt.from_fields(fields) for fields in case["receipts"]]
    proof = prove(
        case["event"],
        [one for one in readers if one is not None],
        [one for one in receipts if one is not None],
        now=case["now"],
    )
    assert proof.status == case["standing"]
    assert (proof.seen, proof.readers, proof.seconds) == (case["seen"], case["of"], case["seconds"])


def test_every_standing_has_a_vector() -> None:
    assert {case["standing"] for case in VECTORS["proofs"]["cases"]} == set(AppStatus)


def test_a_readers_report_equals_the_vector() -> None:
    (text,) = VECTORS["proofs"]["cases"][3]["readers"].values()
    reader = Reader.from_json("a", text)
    assert reader is not None
    assert Reader.from_json("a", reader.to_json()) == reader
    assert json.loads(reader.to_json()) == json.loads(text)


def test_a_receipt_equals_the_vector() -> None:
    case = next(case for case in VECTORS["proofs"]["cases"] if case["receipts"])
    receipt = Receipt.from_fields(case["receipts"][0])
    assert receipt is not None
    assert receipt.to_fields() == case["receipts"][0]
