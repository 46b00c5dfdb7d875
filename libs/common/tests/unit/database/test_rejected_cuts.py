"""Who must give how much when the quarantine is over a bound."""

from hypothesis import given
from hypothesis import strategies as st

from safevideo_common.quarantine.limits import fair_share_cuts


def test_the_heaviest_gives_all_while_it_stays_the_heaviest() -> None:
    assert fair_share_cuts([("flood", 100), ("honest", 5)], 60) == {"flood": 60}


def test_two_that_flood_come_down_to_one_level() -> None:
    assert fair_share_cuts([("a", 100), ("b", 80), ("honest", 5)], 60) == {"a": 40, "b": 20}


def test_of_equals_each_gives_its_part() -> None:
    assert fair_share_cuts([("a", 10), ("b", 10)], 4) == {"a": 2, "b": 2}


def test_what_cannot_be_divided_the_first_ones_give() -> None:
    assert fair_share_cuts([("a", 1), ("b", 1), ("c", 1)], 2) == {"a": 1, "b": 1}


def test_everything_goes_when_nothing_less_is_enough() -> None:
    assert fair_share_cuts([("a", 3), ("b", 1)], 100) == {"a": 3, "b": 1}


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=20), st.integers(1, 5000))
def test_what_is_given_is_enough_and_leaves_nobody_above_who_gave(weights: list[int], excess: int) -> None:
    shares = sorted(((f"address-{place}", weight) for place, weight in enumerate(weights)), key=lambda each: -each[1])
    given_up = fair_share_cuts(shares, excess)
    total = sum(weights)
    assert sum(given_up.values()) == min(excess, total)
    left = {address: weight - given_up.get(address, 0) for address, weight in shares}
    assert all(left[address] >= max(left.values()) - 1 for address in given_up)
