"""Status and priority of a job, as mistyped by hand."""

import pytest

from safevideo_common.jobs.model import JobStatus, Priority, priority_of, status_of


@pytest.mark.parametrize("word", ["queued", "Queued", " QUEUED\n"])
def test_status_ignores_case_and_spaces(word: str) -> None:
    assert status_of(word) is JobStatus.QUEUED


@pytest.mark.parametrize("word", ["pending", "canceled", "", "unknown", "queued!"])
def test_invalid_status_is_unknown(word: str) -> None:
    assert status_of(word) is JobStatus.UNKNOWN


@pytest.mark.parametrize(
    ("word", "priority"),
    [("High", Priority.HIGH), (" urgent ", Priority.URGENT), ("hgih", Priority.NORMAL), ("", Priority.NORMAL)],
)
def test_priority_ignores_case_and_spaces_and_defaults_to_normal(word: str, priority: Priority) -> None:
    assert priority_of(word) is priority
