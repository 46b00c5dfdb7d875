"""The duty cycle: slow work is due later."""

import pytest

from safevideo_common.resilience.duty_cycle import DutyCycle


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_duty_cycle_is_due_after_the_share_of_the_duration() -> None:
    seconds = Seconds()
    duty = DutyCycle(0.1, seconds)
    assert duty.is_due()
    with duty.measured():
        seconds.now += 0.5
    assert not duty.is_due()
    seconds.now = 104.9
    assert not duty.is_due()
    seconds.now = 105.0
    assert duty.is_due()


def test_duty_cycle_measures_failed_work() -> None:
    seconds = Seconds()
    duty = DutyCycle(0.5, seconds)

    def fail() -> None:
        seconds.now += 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), duty.measured():
        fail()
    assert not duty.is_due()
