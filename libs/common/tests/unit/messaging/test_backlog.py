import pytest

from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.backlog import Backlog


def test_a_backlog_full_of_messages_refuses_at_once_and_says_when_to_come_again() -> None:
    backlog = Backlog(max_messages=2)
    backlog.admit(1)
    backlog.admit(1)
    with pytest.raises(LogUnavailable) as refusal:
        backlog.admit(1)
    assert refusal.value.retry_after


def test_a_backlog_full_of_bytes_refuses() -> None:
    backlog = Backlog(max_bytes=100)
    backlog.admit(60)
    with pytest.raises(LogUnavailable):
        backlog.admit(41)
    backlog.admit(40)


def test_what_is_released_makes_room() -> None:
    backlog = Backlog(max_messages=1)
    backlog.admit(10)
    backlog.release(1, 10)
    backlog.admit(10)
