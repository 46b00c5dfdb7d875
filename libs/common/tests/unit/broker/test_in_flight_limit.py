import pytest

from safevideo_common.broker.delivery import InFlightLimit
from safevideo_common.errors import BrokerUnavailable


def test_limit_refuses_more_messages_and_says_when_to_retry() -> None:
    limit = InFlightLimit(max_messages=2)
    limit.acquire(1)
    limit.acquire(1)
    with pytest.raises(BrokerUnavailable) as refusal:
        limit.acquire(1)
    assert refusal.value.retry_after


def test_limit_refuses_more_bytes() -> None:
    limit = InFlightLimit(max_bytes=100)
    limit.acquire(60)
    with pytest.raises(BrokerUnavailable):
        limit.acquire(41)
    limit.acquire(40)


def test_release_makes_room() -> None:
    limit = InFlightLimit(max_messages=1)
    limit.acquire(10)
    limit.release(1, 10)
    limit.acquire(10)
