"""Token buckets: a burst, a rate, and a bounded number of keys."""

from safevideo_common.resilience.token_bucket import TokenBucket, TokenBuckets


def test_bucket_allows_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(burst=2, per_second=0.5)
    assert [bucket.take(100.0) for _ in range(3)] == [True, True, False]
    assert bucket.missing_seconds(100.0) == 2.0
    assert [bucket.take(102.0) for _ in range(2)] == [True, False]


def test_bucket_takes_no_tokens_if_there_are_not_enough() -> None:
    bucket = TokenBucket(burst=5, per_second=1)
    assert not bucket.take(100.0, 6)
    assert bucket.take(100.0, 5)


def test_buckets_forget_the_least_recently_used_key() -> None:
    buckets = TokenBuckets(1, 1, max_keys=2)
    for key in ("a", "b", "a", "c"):
        buckets.get(key).take(100.0)
    assert [buckets.missing_seconds(key, 100.0) > 0 for key in ("a", "b", "c")] == [True, False, True]
