"""What somebody has written by hand into the status or the priority of a job."""

import pytest

from safevideo_common.jobs.model import JobStatus, Priority, priority_of, status_of


@pytest.mark.parametrize("word", ["queued", "Queued", " QUEUED\n"])
def test_case_and_spaces_of_a_status_say_nothing(word: str) -> None:
    assert status_of(word) is JobStatus.QUEUED


@pytest.mark.parametrize("word", ["pending", "canceled", "", "unknown", "queued!"])
def test_what_is_no_status_is_unknown(word: str) -> None:
    assert status_of(word) is JobStatus.UNKNOWN


@pytest.mark.parametrize(
    ("word", "priority"),
    [("High", Priority.HIGH), (" urgent ", Priority.URGENT), ("hgih", Priority.NORMAL), ("", Priority.NORMAL)],
)
def test_what_is_no_priority_is_the_normal_one(word: str, priority: Priority) -> None:
    assert priority_of(word) is priority
