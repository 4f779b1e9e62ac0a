"""Many revocations in one round trip, and again after a loss."""

import time

from app.revocation import Once
from app.store.errors import RevocationRefused
from app.store.store import NEW_MARKER
from backchannel_logout import AppKeys
from tests.support.revocations import NOW, AppStore, revocation


async def test_each_of_many_has_its_own_result(app_store: AppStore) -> None:
    """One refused, one repeated and one new revocation in one round trip."""
    poisoned = AppKeys(other := f"{app_store.app}-other")
    app_store.look.set(poisoned.events, "not a stream")
    await app_store.write()
    await app_store.store.link.aclose()
    app_store.look.script_flush()
    results = await app_store.store.write(
        [
            revocation(other),
            app_store.revocation(),
            app_store.numbered(2),
            revocation(other, sid="s9"),
        ]
    )
    refused, repeated, new, refused_too = results
    assert (repeated, new) == (0, NEW_MARKER)
    assert isinstance(refused, RevocationRefused)
    assert isinstance(refused_too, RevocationRefused)
    assert app_store.sids() == ["s1", "s2"]


async def test_writing_nothing_is_allowed(app_store: AppStore) -> None:
    assert await app_store.store.write([]) == []


async def test_a_flushed_script_cache_is_filled_again(app_store: AppStore) -> None:
    await app_store.write()
    app_store.look.script_flush()
    assert await app_store.write(sid="s2", once=None) == NEW_MARKER


# -- again, after a loss -------------------------------------------------------------------


async def test_an_intact_revocation_is_not_written_again(app_store: AppStore) -> None:
    """No second event, whether the message can still be repeated or not."""
    passed = Once("j2", "s2", "alice", time.time() - 1)
    written = [app_store.revocation(), app_store.revocation(sid="s2", once=passed)]
    await app_store.store.write(written)
    assert await app_store.store.write(written, again=[True, True]) == [0, 0]
    assert app_store.sids() == ["s1", "s2"]


async def test_a_lost_revocation_is_written_again_although_the_message_was_seen(
    app_store: AppStore,
) -> None:
    await app_store.write()
    app_store.look.delete(app_store.marker)
    assert await app_store.store.write([app_store.revocation()], again=[True]) == [NEW_MARKER]
    assert app_store.look.get(app_store.marker) == str(NOW)


async def test_an_older_marker_is_raised_again(app_store: AppStore) -> None:
    """A server restored from an older state may have the marker of an earlier logout."""
    app_store.look.set(app_store.marker, NOW - 50, ex=9000)
    assert await app_store.store.write([app_store.revocation()], again=[True]) == [1]
    assert app_store.look.get(app_store.marker) == str(NOW)
