"""The story of a session or user: dead or alive, since when, by which event, who has acted."""

import json
import time

import pytest

from app.history import AppHistory, History, RevocationQuery, State, as_json
from app.revocation import Once
from backchannel_logout import AppKeys, AppStatus, EventKind, Outcome, Reader, ReaderKind, Receipt
from tests.history.conftest import NewHistory
from tests.support.redis_server import RedisServer, free_port
from tests.support.revocations import ISS, Shelf

ALICE = RevocationQuery(iss=ISS, sid="s1", sub="alice")


async def ask(history: History, question: RevocationQuery = ALICE, **options: int) -> AppHistory:
    (found,) = await history.app_histories(question, **options)
    return found


async def end(shelf: Shelf, sid: str | None = "s1", **changes: object) -> int:
    """Write a revocation of now; returns its cutoff."""
    cutoff = int(time.time())
    once = Once(f"j-{sid}-{changes.get('sub', 'alice')}", sid, "alice", time.time() + 300)
    await shelf.write(**({"sid": sid, "since": cutoff, "once": once} | changes))
    return cutoff


def receipt(shelf: Shelf, event: str, outcome: Outcome, listener: str = "mail") -> None:
    one = Receipt(event=event, listener=listener, reader="r1", seconds=0.25, outcome=outcome)
    shelf.look.xadd(shelf.keys.receipts, one.to_fields())  # type: ignore[arg-type]


async def test_of_a_session_that_nobody_ended_nothing_is_known_but_that_it_lives(
    history: History, shelf: Shelf
) -> None:
    story = await ask(history)
    assert (story.app, story.state, story.markers) == (shelf.app, State.ALIVE, ())
    assert (story.cutoff, story.cause, story.events, story.lost) == (None, None, (), False)
    assert story.max_session_age == 3600


async def test_an_ended_session_names_its_cutoff_and_the_event_that_ended_it(
    history: History, shelf: Shelf
) -> None:
    await end(shelf, "s2")
    cutoff = await end(shelf)
    await end(shelf, "s3")
    story = await ask(history)
    assert (story.state, story.cutoff) == (State.REVOKED, cutoff)
    (marker,) = story.markers
    assert (marker.kind, marker.key, marker.cutoff) == (
        EventKind.SESSION, shelf.marker, cutoff,
    )  # fmt: skip
    assert marker.expires_in is not None
    assert 3600 < marker.expires_in <= 7200
    assert story.cause is not None
    assert story.cause.event == shelf.events()[1]
    assert story.events == (story.cause,)
    assert (story.lost, story.fault) == (False, None)


@pytest.mark.parametrize(
    ("later", "state"), [(0, State.REVOKED), (-60, State.REVOKED), (1, State.ALIVE)]
)
async def test_the_login_decides_as_it_does_in_the_app(
    later: int, state: State, history: History, shelf: Shelf
) -> None:
    cutoff = await end(shelf)
    question = RevocationQuery(iss=ISS, sid="s1", sub="alice", login_at=cutoff + later)
    assert (await ask(history, question)).state is state


async def test_a_code_from_before_the_logout_decides_as_it_does_in_the_app(
    history: History, shelf: Shelf
) -> None:
    """Its event is found although it was written before the login."""
    cutoff = await end(shelf)
    question = RevocationQuery(
        iss=ISS, sid="s1", sub="alice", login_at=cutoff + 60, auth_time=cutoff - 600
    )
    story = await ask(history, question)
    assert (story.state, story.cause and story.cause.event) == (State.REVOKED, shelf.events()[0])


async def test_a_login_longer_ago_than_sessions_live_is_expired(history: History) -> None:
    question = RevocationQuery(iss=ISS, sid="s1", login_at=int(time.time()) - 3602)
    assert (await ask(history, question)).state is State.EXPIRED


async def test_a_user_s_story_holds_the_ends_of_single_sessions_and_says_so(
    history: History, shelf: Shelf
) -> None:
    await end(shelf, "s1")
    await end(shelf, "s9", sub="bob")
    story = await ask(history, RevocationQuery(iss=ISS, sub="alice"))
    assert (story.state, story.cause) == (State.ALIVE, None)
    assert [(one.covers, one.event and one.event.sid) for one in story.events] == [(False, "s1")]
    cutoff = await end(shelf, None, kind=EventKind.USER)
    story = await ask(history, RevocationQuery(iss=ISS, sub="alice"))
    assert (story.state, story.cutoff) == (State.REVOKED, cutoff)
    assert [one.covers for one in story.events] == [True, False]


async def test_everything_of_an_issuer_covers_every_session(history: History, shelf: Shelf) -> None:
    await end(shelf, None, kind=EventKind.ALL, sub=None)
    story = await ask(history, RevocationQuery(iss=ISS, sid="never-heard-of"))
    assert story.state is State.REVOKED
    assert [one.kind for one in story.markers] == [EventKind.ALL]


async def test_the_neighbour_s_and_another_issuer_s_story_stay_empty(
    history: History, shelf: Shelf
) -> None:
    await end(shelf)
    assert (await ask(history, RevocationQuery(iss=ISS, sid="s2", sub="bob"))).events == ()
    other = RevocationQuery(iss=ISS + "/", sid="s1", sub="alice")
    (story,) = await history.app_histories(other, [shelf.app])
    assert (story.state, story.events) == (State.ALIVE, ())


async def test_of_two_events_with_one_cutoff_the_first_is_the_cause(
    history: History, shelf: Shelf
) -> None:
    since = int(time.time())
    await end(shelf, since=since)
    await end(shelf, since=since, once=None)
    first, second = (event.id for event in shelf.events())
    story = await ask(history)
    assert story.cause is not None
    assert (story.cause.id, [one.id for one in story.events]) == (first, [second, first])


async def test_an_event_that_was_trimmed_is_said_to_be_older_than_the_stream(
    history: History, shelf: Shelf
) -> None:
    await end(shelf)
    shelf.look.xtrim(shelf.keys.events, maxlen=0, approximate=False)
    story = await ask(history)
    assert (story.state, story.cause) == (State.REVOKED, None)
    assert story.search is not None
    assert (story.search.ended, story.search.entries) == ("start", 0)


async def test_a_walk_back_ends_at_its_limit_and_says_so(history: History, shelf: Shelf) -> None:
    await end(shelf)
    for n in range(3):
        await end(shelf, f"other-{n}")
    story = await ask(history, limit=2)
    assert (story.state, story.cause) == (State.REVOKED, None)
    assert story.search is not None
    assert (story.search.ended, story.search.entries) == ("limit", 2)


async def test_a_walk_back_ends_where_nothing_older_can_matter(
    history: History, shelf: Shelf
) -> None:
    long_ago = int(time.time() - 2000)
    fields = shelf.revocation(sid="s2").event.to_fields()
    shelf.look.xadd(shelf.keys.events, fields, id=f"{long_ago}000-0")  # type: ignore[arg-type]
    await end(shelf)
    story = await ask(history)
    assert story.search is not None
    assert (story.search.ended, story.search.entries) == ("cutoff", 1)


async def test_a_marker_that_should_be_there_and_is_not_is_lost(
    history: History, shelf: Shelf
) -> None:
    await end(shelf)
    shelf.look.delete(shelf.marker)
    story = await ask(history)
    assert (story.state, story.lost) == (State.ALIVE, True)


@pytest.mark.parametrize("value", ["rubbish", "1_0", ""])
async def test_a_marker_that_can_not_be_read_makes_the_state_unknown(
    value: str, history: History, shelf: Shelf
) -> None:
    shelf.look.set(shelf.marker, value)
    story = await ask(history)
    assert story.state is State.UNKNOWN
    assert [(one.cutoff, one.expires_in) for one in story.markers] == [(None, None)]


async def test_an_app_that_no_receiver_serves_is_unknown(
    new_history: NewHistory, shared_redis: RedisServer
) -> None:
    (story,) = await new_history(shared_redis.url, "nobody-serves-it").app_histories(ALICE)
    assert (story.state, story.max_session_age, story.fault) == (State.UNKNOWN, None, None)


async def test_a_redis_that_is_away_is_one_word(new_history: NewHistory) -> None:
    (story,) = await new_history(f"redis://127.0.0.1:{free_port()}/0", "shop").app_histories(ALICE)
    assert (story.state, story.fault) == (State.UNKNOWN, "ConnectionError")


async def test_an_entry_that_can_not_be_read_is_shown_as_such(
    history: History, shelf: Shelf
) -> None:
    """Whom it ended is known, for that is how it was found."""
    fields = shelf.revocation().event.to_fields() | {"received_at": "yesterday"}
    shelf.look.xadd(shelf.keys.events, fields)  # type: ignore[arg-type]
    story = await ask(history)
    assert [one.event for one in story.events] == [None]


# -- proofs --------------------------------------------------------------------------------


async def test_the_proof_is_that_of_the_client_package(history: History, shelf: Shelf) -> None:
    await end(shelf)
    (event,) = shelf.events()
    assert event.id is not None
    story = await ask(history)
    assert story.cause is not None
    assert story.cause.proof is not None
    assert story.cause.proof.status is AppStatus.NOBODY
    receipt(shelf, event.id, Outcome.DONE)
    story = await ask(history)
    assert story.cause is not None
    assert story.cause.proof is not None
    assert (story.cause.proof.status, story.cause.proof.seconds) == (AppStatus.TORN_DOWN, 0.25)


async def test_a_receipt_of_another_event_shows_that_somebody_has_read_once(
    history: History, shelf: Shelf
) -> None:
    receipt(shelf, "1-1", Outcome.DONE)
    await end(shelf)
    story = await ask(history)
    assert story.cause is not None
    assert story.cause.proof is not None
    assert story.cause.proof.status is AppStatus.SILENT


async def test_an_event_that_a_listener_gave_up_has_its_dead_letter(
    history: History, shelf: Shelf
) -> None:
    await end(shelf, "s2")
    await end(shelf)
    other, event = shelf.events()
    assert event.id is not None
    receipt(shelf, event.id, Outcome.DEAD)
    for one in (other, event):
        letter = {"dl_event": one.id, "dl_listener": "mail", "dl_tries": "5", "dl_error": "OSError"}
        shelf.look.xadd(shelf.keys.dead_letters, one.to_fields() | letter)  # type: ignore[arg-type]
    story = await ask(history)
    assert story.cause is not None
    assert story.cause.proof is not None
    assert story.cause.proof.status is AppStatus.FAILED
    (letter_found,) = story.cause.dead_letters
    assert (letter_found.event, letter_found.tries) == (event.id, 5)
    assert (letter_found.listener, letter_found.error) == ("mail", "OSError")


async def test_a_reader_that_has_come_past_it_has_seen_it(history: History, shelf: Shelf) -> None:
    await end(shelf)
    (event,) = shelf.events()
    reader = Reader(name="web-1", kind=ReaderKind.CACHE, at=time.time(), position=event.id)
    shelf.look.hset(shelf.keys.readers, reader.name, reader.to_json())
    shelf.look.hset(shelf.keys.readers, "of another release", "{}")
    story = await ask(history)
    assert story.cause is not None
    assert story.cause.proof is not None
    assert (story.cause.proof.status, story.cause.proof.seen) == (AppStatus.SEEN, 1)


# -- JSON ----------------------------------------------------------------------------------


async def test_a_story_is_json(history: History, shelf: Shelf) -> None:
    await end(shelf)
    story = json.loads(json.dumps(as_json(await ask(history))))
    (event,) = shelf.events()
    assert story["state"] == "revoked"
    assert story["cause"]["event"] == {"id": event.id} | event.members()
    assert story["cause"]["proof"]["standing"] == "nobody"
    assert story["markers"][0]["kind"] == "session"


async def test_apps_are_those_of_the_issuer_by_any_of_its_names(
    history: History, shelf: Shelf
) -> None:
    assert history.apps_of(ISS) == [shelf.app]
    assert history.apps_of("https://other.example") == []
    assert (
        await history.app_histories(RevocationQuery(iss="https://other.example", sub="alice")) == []
    )
    assert AppKeys(shelf.app).events == shelf.keys.events
