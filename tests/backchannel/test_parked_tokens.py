"""The parked tokens of one issuer: in order of arrival, with a random draw."""

from random import Random

from app.backchannel.parked_tokens import ENTRY_BYTES, ParkedToken, ParkedTokens


def parked(count: int) -> ParkedTokens:
    tokens = ParkedTokens(Random(1).randrange)  # noqa: S311  the same in each run
    for n in range(count):
        tokens.add(b"%d" % n, ParkedToken(float(n), "id"))
    return tokens


def test_they_stay_in_the_order_of_arrival_when_others_leave() -> None:
    tokens = parked(9)
    for leaving in (b"3", b"0", b"8"):
        tokens.remove(leaving)
    assert list(tokens) == [b"1", b"2", b"4", b"5", b"6", b"7"]
    oldest = tokens.oldest()
    assert oldest is not None
    assert (oldest[0], oldest[1].arrived_at) == (b"1", 1.0)


def test_each_is_drawn_equally_often() -> None:
    """Even after some have left and others have arrived."""
    tokens = parked(12)
    for leaving in (b"0", b"5", b"11"):
        tokens.remove(leaving)
    tokens.add(b"new", ParkedToken(99.0, "id"))
    drawn = [tokens.draw() for _ in range(10_000)]
    assert set(drawn) == set(tokens)
    assert all(800 < drawn.count(token) < 1200 for token in tokens)


def test_a_held_token_is_never_drawn() -> None:
    tokens = parked(3)
    tokens.held = b"1"
    assert {tokens.draw() for _ in range(200)} == {b"0", b"2"}
    tokens.remove(b"0")
    tokens.remove(b"2")
    assert tokens.draw() is None


def test_nothing_is_drawn_from_an_empty_set() -> None:
    assert parked(0).draw() is None


def test_their_size_includes_the_overhead_of_an_entry() -> None:
    tokens = parked(10)
    assert tokens.bytes == 10 * (1 + ENTRY_BYTES)
    for token in tokens:
        tokens.remove(token)
    assert (tokens.bytes, len(tokens), tokens.oldest()) == (0, 0, None)
