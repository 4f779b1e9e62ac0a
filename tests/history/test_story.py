"""The history of a session or user in an app: state, cutoff, cause, and who has acted."""

import json
import time

import pytest

from app.history import AppHistory, History, RevocationQuery, State, as_json
from app.revocation import Once
from backchannel_logout import AppKeys, AppStatus, EventKind, Outcome, Reader, ReaderKind, Receipt
from tests.history.conftest import NewHistory
from tests.support.revocations import ISS, AppStore
from tests.support.servers.redis_server import RedisServer, free_port

ALICE = RevocationQuery(iss=ISS, sid="s1", sub="alice")


async def read_history(
    history: History, query: RevocationQuery = ALICE, **options: int
) -> AppHistory:
    (found,) = await history.app_histories(query, **options)
    return found


async def end(app_store: AppStore, sid: str | None = "s1", **changes: object) -> int:
    """Write a revocation with the current time; returns its cutoff."""
    cutoff = int(time.time())
    once = Once(f"j-{sid}-{changes.get('sub', 'alice')}", sid, "alice", time.time() + 300)
    await app_store.write(**({"sid": sid, "since": cutoff, "once": once} | changes))
    return cutoff


def receipt(app_store: AppStore, event: str, outcome: Outcome, listener: str = "mail") -> None:
    one = Receipt(event=event, listener=listener, reader="r1", seconds=0.25, outcome=outcome)
    app_store.look.xadd(app_store.keys.receipts, one.to_fields())  # type: ignore[arg-type]


async def test_a_session_without_an_end_is_alive_with_an_empty_history(
    history: History, app_store: AppStore
) -> None:
    result = await read_history(history)
    assert (result.app, result.state, result.markers) == (app_store.app, State.ALIVE, ())
    assert (result.cutoff, result.cause, result.events, result.lost) == (None, None, (), False)
    assert result.max_session_age == 3600


async def test_an_ended_session_names_its_cutoff_and_the_event_that_ended_it(
    history: History, app_store: AppStore
) -> None:
    await end(app_store, "s2")
    cutoff = await end(app_store)
    await end(app_store, "s3")
    result = await read_history(history)
    assert (result.state, result.cutoff) == (State.REVOKED, cutoff)
    (marker,) = result.markers
    assert (marker.kind, marker.key, marker.cutoff) == (
        EventKind.SESSION, app_store.marker, cutoff,
    )  # fmt: skip
    assert marker.expires_in is not None
    assert 3600 < marker.expires_in <= 7200
    assert result.cause is not None
    assert result.cause.event == app_store.events()[1]
    assert result.events == (result.cause,)
    assert (result.lost, result.fault) == (False, None)


@pytest.mark.parametrize(
    ("later", "state"), [(0, State.REVOKED), (-60, State.REVOKED), (1, State.ALIVE)]
)
async def test_the_login_time_decides_as_in_the_app(
    later: int, state: State, history: History, app_store: AppStore
) -> None:
    cutoff = await end(app_store)
    query = RevocationQuery(iss=ISS, sid="s1", sub="alice", login_at=cutoff + later)
    assert (await read_history(history, query)).state is state


async def test_a_code_from_before_the_logout_decides_as_in_the_app(
    history: History, app_store: AppStore
) -> None:
    """Its event is found although it predates the login."""
    cutoff = await end(app_store)
    query = RevocationQuery(
        iss=ISS, sid="s1", sub="alice", login_at=cutoff + 60, auth_time=cutoff - 600
    )
    result = await read_history(history, query)
    assert (result.state, result.cause and result.cause.event) == (
        State.REVOKED,
        app_store.events()[0],
    )


async def test_a_login_longer_ago_than_sessions_live_is_expired(history: History) -> None:
    query = RevocationQuery(iss=ISS, sid="s1", login_at=int(time.time()) - 3602)
    assert (await read_history(history, query)).state is State.EXPIRED


async def test_a_user_s_history_includes_single_sessions_marked_as_such(
    history: History, app_store: AppStore
) -> None:
    await end(app_store, "s1")
    await end(app_store, "s9", sub="bob")
    result = await read_history(history, RevocationQuery(iss=ISS, sub="alice"))
    assert (result.state, result.cause) == (State.ALIVE, None)
    assert [(event.covers, event.event and event.event.sid) for event in result.events] == [
        (False, "s1")
    ]
    cutoff = await end(app_store, None, kind=EventKind.USER)
    result = await read_history(history, RevocationQuery(iss=ISS, sub="alice"))
    assert (result.state, result.cutoff) == (State.REVOKED, cutoff)
    assert [event.covers for event in result.events] == [True, False]


async def test_everything_of_an_issuer_covers_every_session(
    history: History, app_store: AppStore
) -> None:
    await end(app_store, None, kind=EventKind.ALL, sub=None)
    result = await read_history(history, RevocationQuery(iss=ISS, sid="never-heard-of"))
    assert result.state is State.REVOKED
    assert [marker.kind for marker in result.markers] == [EventKind.ALL]


async def test_the_histories_of_a_neighbour_and_another_issuer_stay_empty(
    history: History, app_store: AppStore
) -> None:
    await end(app_store)
    assert (await read_history(history, RevocationQuery(iss=ISS, sid="s2", sub="bob"))).events == ()
    other = RevocationQuery(iss=ISS + "/", sid="s1", sub="alice")
    (result,) = await history.app_histories(other, [app_store.app])
    assert (result.state, result.events) == (State.ALIVE, ())


async def test_the_first_of_two_events_with_the_same_cutoff_is_the_cause(
    history: History, app_store: AppStore
) -> None:
    since = int(time.time())
    await end(app_store, since=since)
    await end(app_store, since=since, once=None)
    first, second = (event.id for event in app_store.events())
    result = await read_history(history)
    assert result.cause is not None
    assert (result.cause.id, [event.id for event in result.events]) == (first, [second, first])


async def test_a_trimmed_event_is_reported_as_older_than_the_stream(
    history: History, app_store: AppStore
) -> None:
    await end(app_store)
    app_store.look.xtrim(app_store.keys.events, maxlen=0, approximate=False)
    result = await read_history(history)
    assert (result.state, result.cause) == (State.REVOKED, None)
    assert result.search is not None
    assert (result.search.ended, result.search.entries) == ("start", 0)


async def test_a_walk_back_ends_at_its_limit_and_reports_it(
    history: History, app_store: AppStore
) -> None:
    await end(app_store)
    for n in range(3):
        await end(app_store, f"other-{n}")
    result = await read_history(history, limit=2)
    assert (result.state, result.cause) == (State.REVOKED, None)
    assert result.search is not None
    assert (result.search.ended, result.search.entries) == ("limit", 2)


async def test_a_walk_back_ends_where_older_entries_cannot_matter(
    history: History, app_store: AppStore
) -> None:
    long_ago = int(time.time() - 2000)
    fields = app_store.revocation(sid="s2").event.to_fields()
    app_store.look.xadd(app_store.keys.events, fields, id=f"{long_ago}000-0")  # type: ignore[arg-type]
    await end(app_store)
    result = await read_history(history)
    assert result.search is not None
    assert (result.search.ended, result.search.entries) == ("cutoff", 1)


async def test_a_missing_marker_that_should_exist_is_lost(
    history: History, app_store: AppStore
) -> None:
    await end(app_store)
    app_store.look.delete(app_store.marker)
    result = await read_history(history)
    assert (result.state, result.lost) == (State.ALIVE, True)


@pytest.mark.parametrize("value", ["rubbish", "1_0", ""])
async def test_an_unreadable_marker_makes_the_state_unknown(
    value: str, history: History, app_store: AppStore
) -> None:
    app_store.look.set(app_store.marker, value)
    result = await read_history(history)
    assert result.state is State.UNKNOWN
    assert [(marker.cutoff, marker.expires_in) for marker in result.markers] == [(None, None)]


async def test_an_app_that_no_receiver_serves_is_unknown(
    new_history: NewHistory, shared_redis: RedisServer
) -> None:
    (result,) = await new_history(shared_redis.url, "nobody-serves-it").app_histories(ALICE)
    assert (result.state, result.max_session_age, result.fault) == (State.UNKNOWN, None, None)


async def test_an_unreachable_redis_is_reported_as_one_word(new_history: NewHistory) -> None:
    (result,) = await new_history(f"redis://127.0.0.1:{free_port()}/0", "shop").app_histories(ALICE)
    assert (result.state, result.fault) == (State.UNKNOWN, "ConnectionError")


async def test_an_unreadable_entry_is_listed_as_such(history: History, app_store: AppStore) -> None:
    """Its subject is known, because the search matched it."""
    fields = app_store.revocation().event.to_fields() | {"received_at": "yesterday"}
    app_store.look.xadd(app_store.keys.events, fields)  # type: ignore[arg-type]
    result = await read_history(history)
    assert [event.event for event in result.events] == [None]


# -- proofs --------------------------------------------------------------------------------


async def test_the_proof_is_that_of_the_client_package(
    history: History, app_store: AppStore
) -> None:
    await end(app_store)
    (event,) = app_store.events()
    assert event.id is not None
    result = await read_history(history)
    assert result.cause is not None
    assert result.cause.proof is not None
    assert result.cause.proof.status is AppStatus.NOBODY
    receipt(app_store, event.id, Outcome.DONE)
    result = await read_history(history)
    assert result.cause is not None
    assert result.cause.proof is not None
    assert (result.cause.proof.status, result.cause.proof.seconds) == (AppStatus.TORN_DOWN, 0.25)


async def test_a_receipt_of_another_event_shows_that_a_listener_has_run(
    history: History, app_store: AppStore
) -> None:
    receipt(app_store, "1-1", Outcome.DONE)
    await end(app_store)
    result = await read_history(history)
    assert result.cause is not None
    assert result.cause.proof is not None
    assert result.cause.proof.status is AppStatus.SILENT


async def test_an_event_that_a_listener_gave_up_has_its_dead_letter(
    history: History, app_store: AppStore
) -> None:
    await end(app_store, "s2")
    await end(app_store)
    other, event = app_store.events()
    assert event.id is not None
    receipt(app_store, event.id, Outcome.DEAD)
    for one in (other, event):
        letter = {"dl_event": one.id, "dl_listener": "mail", "dl_tries": "5", "dl_error": "OSError"}
        app_store.look.xadd(app_store.keys.dead_letters, one.to_fields() | letter)  # type: ignore[arg-type]
    result = await read_history(history)
    assert result.cause is not None
    assert result.cause.proof is not None
    assert result.cause.proof.status is AppStatus.FAILED
    (found_letter,) = result.cause.dead_letters
    assert (found_letter.event, found_letter.tries) == (event.id, 5)
    assert (found_letter.listener, found_letter.error) == ("mail", "OSError")


async def test_a_reader_with_a_later_position_has_seen_it(
    history: History, app_store: AppStore
) -> None:
    await end(app_store)
    (event,) = app_store.events()
    reader = Reader(name="web-1", kind=ReaderKind.CACHE, at=time.time(), position=event.id)
    app_store.look.hset(app_store.keys.readers, reader.name, reader.to_json())
    app_store.look.hset(app_store.keys.readers, "of another release", "{}")
    result = await read_history(history)
    assert result.cause is not None
    assert result.cause.proof is not None
    assert (result.cause.proof.status, result.cause.proof.seen) == (AppStatus.SEEN, 1)


# -- JSON ----------------------------------------------------------------------------------


async def test_an_app_history_is_json(history: History, app_store: AppStore) -> None:
    await end(app_store)
    result = json.loads(json.dumps(as_json(await read_history(history))))
    (event,) = app_store.events()
    assert result["state"] == "revoked"
    assert result["cause"]["event"] == {"id": event.id} | event.members()
    assert result["cause"]["proof"]["standing"] == "nobody"
    assert result["markers"][0]["kind"] == "session"


async def test_apps_are_those_of_the_issuer_by_any_of_its_names(
    history: History, app_store: AppStore
) -> None:
    assert history.apps_of(ISS) == [app_store.app]
    assert history.apps_of("https://other.example") == []
    assert (
        await history.app_histories(RevocationQuery(iss="https://other.example", sub="alice")) == []
    )
    assert AppKeys(app_store.app).events == app_store.keys.events
