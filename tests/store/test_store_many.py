"""Many revocations in one round trip, and again after a loss."""

import time

from app.revocation import Once
from app.store.errors import RevocationRefused
from app.store.store import NEW_MARKER
from backchannel_logout import AppKeys
from tests.support.revocations import NOW, Shelf, revocation


async def test_each_of_many_has_a_result_of_its_own(shelf: Shelf) -> None:
    """One that is refused, one that is repeated, one that is new, in one round trip."""
    poisoned = AppKeys(other := f"{shelf.app}-other")
    shelf.look.set(poisoned.events, "not a stream")
    await shelf.write()
    await shelf.store.link.aclose()
    shelf.look.script_flush()
    results = await shelf.store.write(
        [revocation(other), shelf.revocation(), shelf.numbered(2), revocation(other, sid="s9")]
    )
    refused, repeated, new, refused_too = results
    assert (repeated, new) == (0, NEW_MARKER)
    assert isinstance(refused, RevocationRefused)
    assert isinstance(refused_too, RevocationRefused)
    assert shelf.sids() == ["s1", "s2"]


async def test_nothing_to_write_is_no_fault(shelf: Shelf) -> None:
    assert await shelf.store.write([]) == []


async def test_a_script_cache_that_was_flushed_is_filled_again(shelf: Shelf) -> None:
    await shelf.write()
    shelf.look.script_flush()
    assert await shelf.write(sid="s2", once=None) == NEW_MARKER


# -- again, after a loss -------------------------------------------------------------------


async def test_what_is_still_there_is_not_written_again(shelf: Shelf) -> None:
    """No second event, whether the message's window is open or has passed."""
    passed = Once("j2", "s2", "alice", time.time() - 1)
    written = [shelf.revocation(), shelf.revocation(sid="s2", once=passed)]
    await shelf.store.write(written)
    assert await shelf.store.write(written, again=[True, True]) == [0, 0]
    assert shelf.sids() == ["s1", "s2"]


async def test_what_was_lost_is_written_again_although_the_message_was_seen(shelf: Shelf) -> None:
    await shelf.write()
    shelf.look.delete(shelf.marker)
    assert await shelf.store.write([shelf.revocation()], again=[True]) == [NEW_MARKER]
    assert shelf.look.get(shelf.marker) == str(NOW)


async def test_a_marker_that_is_older_is_raised_again(shelf: Shelf) -> None:
    """A server that came back older may have the marker of an earlier logout."""
    shelf.look.set(shelf.marker, NOW - 50, ex=9000)
    assert await shelf.store.write([shelf.revocation()], again=[True]) == [1]
    assert shelf.look.get(shelf.marker) == str(NOW)
