"""The conclusion from a session's history: no false "complete", no false "alive"."""

import time
import uuid
from typing import Any

import pytest

from app.backchannel.parking import MAX_STAY
from app.history import (
    AppHistory,
    Conclusion,
    History,
    RevocationQuery,
    Search,
    SessionHistory,
    State,
)
from app.history.audit_stream import WAITS
from app.history.conclusion import SENTENCES, WAITS_SECONDS, conclude
from app.history.records import Marker
from app.revocation import Once
from app.store.operator_streams import REFUSED
from app.telemetry.hashes import KeyedHash
from backchannel_logout import EventKind, Outcome, Reader, ReaderKind, Receipt
from tests.history.conftest import NewHistory
from tests.support.revocations import ISS, AppStore

HASHED = KeyedHash(b"the key of this test")


@pytest.fixture
def sid() -> str:
    """Unique to the test, because the refusals of all apps share one stream."""
    return f"s-{uuid.uuid4().hex}"


async def read_history(history: History, sid: str, **changes: Any) -> SessionHistory:
    query = RevocationQuery(**({"iss": ISS, "sid": sid} | changes))
    return await history.session_history(query, hashed=HASHED)


async def end(app_store: AppStore, sid: str, *, jti: str = "j", since: float | None = None) -> str:
    """End the session; returns the event's id."""
    cutoff = int(time.time()) if since is None else int(since)
    once = Once(f"{jti}-{sid}", sid, None, time.time() + 300)
    await app_store.write(sid=sid, sub=None, since=cutoff, once=once)
    event = app_store.events()[-1].id
    assert event is not None
    return event


def receipt(app_store: AppStore, event: str, outcome: Outcome) -> None:
    one = Receipt(event=event, listener="mail", reader="r1", seconds=0.25, outcome=outcome)
    app_store.look.xadd(app_store.keys.receipts, one.to_fields())  # type: ignore[arg-type]


def refuse(app_store: AppStore, sid: str, reason: str = "iat_old", **changes: str) -> None:
    fields = {"at": f"{time.time():.3f}", "reason": reason, "iss": ISS, "sid_hash": HASHED(sid)}
    app_store.look.xadd(REFUSED, fields | changes)  # type: ignore[arg-type]


def test_every_conclusion_has_a_sentence_and_the_wait_is_that_of_parking() -> None:
    assert SENTENCES.keys() == set(Conclusion)
    assert WAITS_SECONDS == MAX_STAY


@pytest.mark.parametrize("ended", ["start", "cutoff", "limit"])
def test_an_event_that_was_not_found_is_not_reported_as_gone(ended: str) -> None:
    """If the search reached its limit, the stream may still have it."""
    app = AppHistory(
        app="shop", state=State.REVOKED, cutoff=5,
        markers=(Marker(kind=EventKind.SESSION, key="k", cutoff=5, expires_in=60.0),),
        search=Search(entries=100_000, ended=ended, oldest=9.0),
    )  # fmt: skip
    result = conclude(RevocationQuery(iss=ISS, sid="s"), [app], [], now=10.0)
    assert result.conclusion is Conclusion.ENDED
    assert "not found" in SENTENCES[result.conclusion]
    assert "no longer holds" not in SENTENCES[result.conclusion]


async def test_nothing_is_known_about_an_id_without_an_end(history: History, sid: str) -> None:
    result = await read_history(history, sid)
    assert (result.conclusion, result.refusals) == (Conclusion.NOTHING_KNOWN, ())


async def test_an_app_that_has_acted_completes_it(
    history: History, app_store: AppStore, sid: str
) -> None:
    event = await end(app_store, sid)
    assert (await read_history(history, sid)).conclusion is Conclusion.NOT_READ
    reader = Reader(name="web", kind=ReaderKind.CACHE, at=time.time(), position="0-0")
    app_store.look.hset(app_store.keys.readers, "web", reader.to_json())
    assert (await read_history(history, sid)).conclusion is Conclusion.NOT_YET
    app_store.look.hdel(app_store.keys.readers, "web")
    receipt(app_store, event, Outcome.DONE)
    assert (await read_history(history, sid)).conclusion is Conclusion.COMPLETE
    assert (await read_history(history, f"{sid}-")).conclusion is Conclusion.NOTHING_KNOWN


async def test_a_listener_that_gave_it_up_does_not_complete_it(
    history: History, app_store: AppStore, sid: str
) -> None:
    event = await end(app_store, sid)
    receipt(app_store, event, Outcome.DEAD)
    assert (await read_history(history, sid)).conclusion is Conclusion.GIVEN_UP


async def test_a_dead_letter_counts_even_if_its_receipt_was_trimmed(
    history: History, app_store: AppStore, sid: str
) -> None:
    event = await end(app_store, sid)
    letter = {"dl_event": event, "dl_listener": "mail", "dl_tries": "5", "dl_error": "KeyError"}
    app_store.look.xadd(app_store.keys.dead_letters, letter)  # type: ignore[arg-type]
    assert (await read_history(history, sid)).conclusion is Conclusion.GIVEN_UP


async def test_a_token_waiting_for_keys_outranks_an_older_complete_logout(
    history: History, app_store: AppStore, sid: str
) -> None:
    receipt(app_store, await end(app_store, sid, since=time.time() - 30), Outcome.DONE)
    refuse(app_store, sid, WAITS, at=f"{time.time() + 1:.3f}", jti_hash=HASHED(f"k-{sid}"))
    result = await read_history(history, sid)
    assert result.conclusion is Conclusion.WAITING
    assert [refusal.reason for refusal in result.refusals] == [WAITS]
    receipt(app_store, await end(app_store, sid, jti="k"), Outcome.DONE)
    result = await read_history(history, sid)
    assert (result.conclusion, result.refusals) == (Conclusion.COMPLETE, ())


async def test_a_token_that_waited_too_long_was_not_applied(
    history: History, app_store: AppStore, sid: str
) -> None:
    refuse(app_store, sid, WAITS, at=f"{time.time() - WAITS_SECONDS - 1:.3f}")
    assert (await read_history(history, sid)).conclusion is Conclusion.NOT_APPLIED


async def test_a_refusal_newer_than_the_logout_is_reported(
    history: History, app_store: AppStore, sid: str
) -> None:
    long_ago = time.time() - 1800
    await end(app_store, sid, since=long_ago)
    app_store.look.delete(app_store.keys.events)
    refuse(app_store, sid)
    result = await read_history(history, sid)
    assert result.conclusion is Conclusion.REFUSED
    assert [refusal.reason for refusal in result.refusals] == ["iat_old"]
    # A login before the marker is dead in spite of the refusal; a later login is not.
    assert (await read_history(history, sid, login_at=int(long_ago))).conclusion is Conclusion.ENDED
    later = await read_history(history, sid, login_at=int(long_ago) + 5)
    assert later.conclusion is Conclusion.REFUSED


async def test_a_refusal_before_the_logout_or_about_others_does_not_count(
    history: History, app_store: AppStore, sid: str
) -> None:
    refuse(app_store, sid, at=f"{time.time() - 5:.3f}")
    refuse(app_store, "another")
    refuse(app_store, sid, iss="https://b.example")
    event = await end(app_store, sid)
    receipt(app_store, event, Outcome.DONE)
    # A duplicate, sent after it was applied.
    refuse(app_store, sid, at=f"{time.time() + 5:.3f}", jti_hash=HASHED(f"j-{sid}"))
    result = await read_history(history, sid)
    assert (result.conclusion, result.refusals) == (Conclusion.COMPLETE, ())


@pytest.mark.parametrize("named", [True, False])
async def test_a_token_of_the_user_affects_a_session_only_if_it_names_no_other(
    named: bool, history: History, app_store: AppStore, sid: str
) -> None:
    sub = f"user-{sid}"
    other = {"sid_hash": HASHED("another")} if named else {}
    fields = {"at": f"{time.time():.3f}", "reason": "nonce", "iss": ISS, "sub_hash": HASHED(sub)}
    app_store.look.xadd(REFUSED, fields | other)  # type: ignore[arg-type]
    result = await read_history(history, sid, sub=sub)
    expected = Conclusion.NOTHING_KNOWN if named else Conclusion.REFUSED
    assert result.conclusion is expected
    assert (await read_history(history, None, sub=sub)).conclusion is Conclusion.REFUSED  # type: ignore[arg-type]


async def test_a_misspelled_unconfigured_issuer_does_not_hide_the_refusal(
    history: History, app_store: AppStore, sid: str
) -> None:
    refuse(app_store, sid, "iss_unknown", iss=ISS + "/")
    assert (await read_history(history, sid)).conclusion is Conclusion.REFUSED


async def test_a_login_after_every_logout_is_reported_as_later(
    history: History, app_store: AppStore, sid: str
) -> None:
    await end(app_store, sid, since=time.time() - 100)
    found = await read_history(history, sid, login_at=int(time.time()) - 10)
    assert found.conclusion is Conclusion.LATER_LOGIN


async def test_without_the_hash_key_refusals_are_reported_as_unread(
    history: History, sid: str
) -> None:
    result = await history.session_history(RevocationQuery(iss=ISS, sid=sid))
    assert (result.refusals, result.refusals_read) == ((), False)


async def test_an_unreachable_redis_allows_no_conclusion(new_history: NewHistory) -> None:
    history = new_history("redis://127.0.0.1:1/0", "shop")
    assert (await read_history(history, "s")).conclusion is Conclusion.UNREADABLE


async def test_the_cause_is_proven_however_many_newer_events_there_are(
    history: History, app_store: AppStore, sid: str
) -> None:
    """A user was signed out, and later 25 sessions ended one by one."""
    sub = f"user-{sid}"
    await app_store.write(kind=EventKind.USER, sid=None, sub=sub, since=int(time.time()), once=None)
    event = app_store.events()[-1].id
    assert event is not None
    receipt(app_store, event, Outcome.DONE)
    for n in range(25):
        await app_store.write(sid=f"{sid}-{n}", sub=sub, since=int(time.time()), once=None)
    result = await read_history(history, None, sub=sub)  # type: ignore[arg-type]
    assert result.conclusion is Conclusion.COMPLETE
