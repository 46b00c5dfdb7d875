"""Who must give how much when the quarantine is over a bound."""

from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.quarantine.limits import fair_share_cuts


def test_fair_share_takes_all_from_the_heaviest() -> None:
    assert fair_share_cuts([("flood", 100), ("honest", 5)], 60) == {"flood": 60}


def test_fair_share_brings_the_heaviest_to_one_level() -> None:
    assert fair_share_cuts([("a", 100), ("b", 80), ("honest", 5)], 60) == {"a": 40, "b": 20}


def test_fair_share_takes_equally_from_equals() -> None:
    assert fair_share_cuts([("a", 10), ("b", 10)], 4) == {"a": 2, "b": 2}


def test_fair_share_takes_a_remainder_from_the_first() -> None:
    assert fair_share_cuts([("a", 1), ("b", 1), ("c", 1)], 2) == {"a": 1, "b": 1}


def test_fair_share_takes_everything_if_needed() -> None:
    assert fair_share_cuts([("a", 3), ("b", 1)], 100) == {"a": 3, "b": 1}


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=20), st.integers(1, 5000))
def test_fair_share_is_sufficient_and_leaves_no_address_above_those_that_gave(weights: list[int], excess: int) -> None:
    shares = sorted(((f"address-{place}", weight) for place, weight in enumerate(weights)), key=lambda each: -each[1])
    given_up = fair_share_cuts(shares, excess)
    total = sum(weights)
    assert sum(given_up.values()) == min(excess, total)
    left = {address: weight - given_up.get(address, 0) for address, weight in shares}
    assert all(left[address] >= max(left.values()) - 1 for address in given_up)
