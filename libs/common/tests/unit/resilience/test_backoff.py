from safevideo_common.resilience.backoff import Backoff, jittered


def test_jittered_stays_between_half_and_the_whole() -> None:
    delays = [jittered(4.0) for _ in range(1000)]
    assert 2.0 <= min(delays) < max(delays) <= 4.0


def test_ceiling_doubles_up_to_the_maximum() -> None:
    backoff = Backoff(initial=0.5, maximum=5.0)
    assert [backoff.ceiling(failures) for failures in (1, 2, 3, 4, 5, 5000)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_delay_is_in_the_upper_half_below_the_ceiling() -> None:
    assert all(1.0 <= Backoff(initial=0.5, maximum=5.0).delay(3) <= 2.0 for _ in range(1000))
