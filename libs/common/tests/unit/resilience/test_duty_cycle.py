"""A share of the time: the longer it took, the later it is due again."""

import pytest

from safevideo_common.resilience.duty_cycle import DutyCycle


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_at_first_it_is_due_and_then_as_late_as_its_share_says() -> None:
    seconds = Seconds()
    pace = DutyCycle(0.1, seconds)
    assert pace.is_due()
    with pace.measured():
        seconds.now += 0.5
    assert not pace.is_due()
    seconds.now = 104.9
    assert not pace.is_due()
    seconds.now = 105.0
    assert pace.is_due()


def test_what_fails_has_cost_its_time_too() -> None:
    seconds = Seconds()
    pace = DutyCycle(0.5, seconds)

    def fail() -> None:
        seconds.now += 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), pace.measured():
        fail()
    assert not pace.is_due()
