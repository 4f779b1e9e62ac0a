"""The token bucket, and the bounded map of buckets."""

from app.rate_limit import TokenBucket, TokenBuckets
from tests.support.clock import Clock


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(3, 0.5, clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    assert bucket.wait_seconds == 2
    clock.now += 1
    assert not bucket.take()
    assert bucket.wait_seconds == 1
    clock.now += 1
    assert [bucket.take() for _ in range(2)] == [True, False]


def test_an_idle_bucket_holds_no_more_than_the_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(2, 1, clock)
    clock.now += 1000
    assert [bucket.take() for _ in range(3)] == [True, True, False]


def test_a_token_that_is_given_back_can_be_taken_and_the_burst_stays_the_maximum() -> None:
    clock = Clock()
    bucket = TokenBucket(2, 1, clock)
    bucket.give_back()
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    bucket.give_back()
    assert [bucket.take() for _ in range(2)] == [True, False]


def test_each_key_has_its_own_bucket() -> None:
    buckets = TokenBuckets(1, 1, max_keys=10, monotonic=Clock())
    assert buckets["a"].take()
    assert not buckets["a"].take()
    assert buckets["b"].take()


def test_the_key_that_was_used_least_recently_is_forgotten() -> None:
    buckets = TokenBuckets(1, 1, max_keys=2, monotonic=Clock())
    assert buckets["a"].take()
    assert buckets["b"].take()
    assert not buckets["a"].take()
    assert buckets["c"].take()
    assert not buckets["a"].take()
    assert buckets["b"].take()
