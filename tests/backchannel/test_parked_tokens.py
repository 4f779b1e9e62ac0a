"""The parked tokens of one issuer: in order, and drawn from at random."""

from random import Random

from app.backchannel.parked_tokens import ENTRY_BYTES, ParkedToken, ParkedTokens


def filled(how_many: int) -> ParkedTokens:
    tokens = ParkedTokens(Random(1).randrange)  # noqa: S311  the same in each run
    for n in range(how_many):
        tokens.add(b"%d" % n, ParkedToken(float(n), "id"))
    return tokens


def test_they_stand_in_the_order_of_their_arrival_whoever_leaves() -> None:
    tokens = filled(9)
    for leaving in (b"3", b"0", b"8"):
        tokens.remove(leaving)
    assert list(tokens) == [b"1", b"2", b"4", b"5", b"6", b"7"]
    oldest = tokens.oldest()
    assert oldest is not None
    assert (oldest[0], oldest[1].arrived_at) == (b"1", 1.0)


def test_each_is_drawn_as_often_as_any_other() -> None:
    """Also after some have left and others have come."""
    tokens = filled(12)
    for leaving in (b"0", b"5", b"11"):
        tokens.remove(leaving)
    tokens.add(b"new", ParkedToken(99.0, "id"))
    drawn = [tokens.draw() for _ in range(10_000)]
    assert set(drawn) == set(tokens)
    assert all(800 < drawn.count(token) < 1200 for token in tokens)


def test_the_one_that_is_held_is_never_drawn() -> None:
    tokens = filled(3)
    tokens.held = b"1"
    assert {tokens.draw() for _ in range(200)} == {b"0", b"2"}
    tokens.remove(b"0")
    tokens.remove(b"2")
    assert tokens.draw() is None


def test_nothing_is_drawn_from_nothing() -> None:
    assert filled(0).draw() is None


def test_they_count_for_their_bytes_and_what_an_entry_takes() -> None:
    tokens = filled(10)
    assert tokens.bytes == 10 * (1 + ENTRY_BYTES)
    for token in tokens:
        tokens.remove(token)
    assert (tokens.bytes, len(tokens), tokens.oldest()) == (0, 0, None)
