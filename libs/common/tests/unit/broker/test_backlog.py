import pytest

from safevideo_common.broker.delivery import InFlightLimit
from safevideo_common.errors import BrokerUnavailable


def test_a_backlog_full_of_messages_refuses_at_once_and_says_when_to_come_again() -> None:
    backlog = InFlightLimit(max_messages=2)
    backlog.admit(1)
    backlog.admit(1)
    with pytest.raises(BrokerUnavailable) as refusal:
        backlog.admit(1)
    assert refusal.value.retry_after


def test_a_backlog_full_of_bytes_refuses() -> None:
    backlog = InFlightLimit(max_bytes=100)
    backlog.admit(60)
    with pytest.raises(BrokerUnavailable):
        backlog.admit(41)
    backlog.admit(40)


def test_what_is_released_makes_room() -> None:
    backlog = InFlightLimit(max_messages=1)
    backlog.admit(10)
    backlog.release(1, 10)
    backlog.admit(10)
