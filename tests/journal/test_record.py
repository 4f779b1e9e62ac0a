"""A record is read back unchanged or not at all, whatever bytes surround it."""

import random
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.journal.record import DamagedRecord, decode, encode, records_in
from app.journal.segment_log import _READ_BYTES
from app.revocation import Once
from backchannel_logout import EventKind
from tests.support.revocations import numbered, revocation

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255)
claims = st.none() | texts


@given(
    kind=st.sampled_from(EventKind),
    sid=texts,
    sub=texts,
    names=st.lists(texts, min_size=1, max_size=4).map(tuple),
    client_ids=st.lists(texts, max_size=3).map(tuple),
    once=st.none() | st.builds(Once, texts, claims, claims, st.floats(0, 2**33)),
    offline=st.booleans(),
)
@settings(deadline=None)
def test_a_revocation_is_read_back_unchanged(
    kind: EventKind, sid: str, sub: str, names: tuple[str], client_ids: tuple[str],
    once: Once | None, *, offline: bool,
) -> None:  # fmt: skip
    original = revocation(
        kind=kind, sid=sid, sub=sub, issuer_names=names, client_ids=client_ids, once=once,
        revoke_offline_access=offline,
    )  # fmt: skip
    assert decode(encode(original)) == original


@pytest.mark.parametrize(
    ("kind", "sid", "sub"),
    [
        (EventKind.SESSION, "s1", "alice"),
        (EventKind.USER, None, "alice"),
        (EventKind.USER, "s1", "alice"),  # the event then names no session
    ],
)
def test_a_message_is_read_back_whether_it_names_the_same_as_the_event_or_more(
    kind: EventKind, sid: str | None, sub: str
) -> None:
    original = revocation(kind=kind, sid=sid, sub=sub, once=Once("j1", sid, sub, 1.5))
    assert decode(encode(original)) == original
    assert decode(encode(original)).once == Once("j1", sid, sub, 1.5)


def test_a_lone_surrogate_is_refused_before_anything_is_written() -> None:
    """It has no UTF-8 form, so no Redis key. Strict JSON refuses such a token earlier."""
    with pytest.raises(ValueError, match="surrogates"):
        revocation(sid="\ud800")


@given(before=st.binary(max_size=60), after=st.binary(max_size=60), n=st.integers(1, 4))
@settings(deadline=None)
@example(b"bcl1:9:", b"bcl1:9999999:00000000:", 2)
def test_intact_records_are_found_among_any_bytes(before: bytes, after: bytes, n: int) -> None:
    whole = [encode(numbered(i, received_at=1.0)) for i in range(n)]
    assert list(records_in(before + (after + before).join(whole) + after)) == whole


def test_a_damaged_record_is_not_found() -> None:
    """Cut short at any place, or with any byte changed. Seeded, so failures can be repeated."""
    record, chance = encode(revocation()), random.Random(4)  # noqa: S311
    for cut in range(len(record)):
        assert list(records_in(record[:cut])) == []
        with pytest.raises(DamagedRecord):
            decode(record[:cut])
    for at in range(len(record)):
        changed = bytearray(record)
        changed[at] ^= chance.randrange(1, 256)
        assert list(records_in(bytes(changed))) == []
        with pytest.raises(DamagedRecord):
            decode(bytes(changed))


def test_a_claim_that_looks_like_a_record_is_not_one() -> None:
    """Quotes inside a JSON string are escaped."""
    inner = encode(numbered(1)).decode()
    outer = encode(revocation(sid=inner))
    assert [decode(record).event.sid for record in records_in(outer) if record == outer] == [inner]
    for record in records_in(outer):
        if record != outer:
            with pytest.raises(DamagedRecord):
                decode(record)


@pytest.mark.parametrize("letter", ["a", "ü", "\x01", "\U0001f600", '"'])
def test_the_longest_claims_are_far_shorter_than_one_read(letter: str) -> None:
    """A longer record would not be found."""
    longest = letter * 255
    longest_revocation = revocation(
        sid=longest, sub=longest, once=Once(longest, longest, longest, 2.0**33)
    )
    assert len(encode(longest_revocation)) < _READ_BYTES // 4


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"null", b"1", b'{"event":{},"names":[],"life":1,"once":null}']
)
def test_a_record_of_another_release_is_recognized(body: bytes) -> None:
    with pytest.raises(DamagedRecord, match="another release"):
        decode(b"bcl1:%d:%08x:%s" % (len(body), zlib.crc32(body), body))
