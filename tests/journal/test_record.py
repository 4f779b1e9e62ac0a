"""A record is read back unchanged or not at all, whatever bytes surround it."""

import random
import zlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.journal.ack_log import AckLog
from app.journal.journal import Journal
from app.journal.record import READ_BYTES, DamagedRecord, decode, encode, records_in
from app.journal.segment_log import Segment
from app.revocation import Once
from backchannel_logout import EventKind
from tests.support.revocations import numbered, revocation

EMPTY = "bcl1:0:00000000:"
"""A record without a body."""

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
    """A head alone is a whole record: the checksum of nothing is 0."""
    inner = [encode(numbered(1)).decode(), EMPTY, "bcl1:99999:00000000:"]
    outer = [encode(revocation(sid=claim)) for claim in inner]
    data = b"\n".join(outer)
    assert list(records_in(data)) == outer
    assert [decode(record).event.sid for record in records_in(data)] == inner


async def test_a_claim_that_looks_like_a_record_blocks_nothing(tmp_path: Path) -> None:
    written = [numbered(n, sub=EMPTY) for n in range(2)]
    for _ in range(2):
        journal = Journal(tmp_path / "journal.db", max_bytes=1 << 24)
        await journal.open()
        for each in written:
            await journal.append(each)
        entries = await journal.read(after=0, limit=10)
        assert [entry.revocation for entry in entries] == written
        await journal.close()
    copy = AckLog(tmp_path / "copy", window=3600, max_bytes=1 << 24)
    copy.open()
    copy.add_many(written)
    assert [each for _, each in copy.read(after=0, limit=10)] == written
    copy.close()
    assert not list(tmp_path.glob("*damaged*"))  # noqa: ASYNC240


@pytest.mark.parametrize("claim", [EMPTY, "bcl1:99999:00000000:"])
def test_a_claim_that_looks_like_a_record_is_read_across_the_border_of_two_reads(
    claim: str, tmp_path: Path
) -> None:
    """Wherever the border cuts it."""
    first = encode(numbered(1, sid=claim + "x" * 200, sub=claim + "x" * 200)) + b"\n"
    last = encode(numbered(2)) + b"\n"
    filler = encode(numbered(3)) + b"\n"
    for cut in range(len(first) + 3):
        before = filler * ((READ_BYTES - cut) // len(filler))
        before = b"#" * (READ_BYTES - cut - len(before)) + before
        path = tmp_path / "1.log"
        path.write_bytes(before + first + last)
        size = path.stat().st_size
        records = list(Segment(1, path, size, 0.0, 0.0).records())
        assert [record for _, record in records[-2:]] == [first[:-1], last[:-1]]
        assert records[-1][0] & 0xFFFF_FFFF == size - 1
        assert len(records) == before.count(filler) + 2


@pytest.mark.parametrize("letter", ["a", "ü", "\x01", "\U0001f600", '"'])
def test_the_longest_claims_are_far_shorter_than_one_read(letter: str) -> None:
    """A longer record would not be found."""
    longest = letter * 255
    longest_revocation = revocation(
        sid=longest, sub=longest, once=Once(longest, longest, longest, 2.0**33)
    )
    assert len(encode(longest_revocation)) < READ_BYTES // 4


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"null", b"1", b'{"event":{},"names":[],"life":1,"once":null}']
)
def test_a_record_of_another_release_is_recognized(body: bytes) -> None:
    with pytest.raises(DamagedRecord, match="another release"):
        decode(b"bcl1:%d:%08x:%s" % (len(body), zlib.crc32(body), body))
