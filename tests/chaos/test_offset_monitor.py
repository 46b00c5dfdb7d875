"""The monitor of committed offsets tells a decrease from the answer of a broker that coordinates no more."""

import pytest

from safevideo_common.broker.types import TopicPartition
from safevideo_testkit.chaos.lag_probe import OffsetMonitor

PARTITION = TopicPartition("topic", 0)


@pytest.mark.parametrize(
    ("answers", "decreases", "outdated"),
    [
        ([(1, 5), (1, 9), (2, 9), (2, 12)], 0, 0),
        ([(1, 5), (1, 3)], 1, 0),
        ([(1, 5), (2, 9), (1, 5), (1, 5), (2, 9), (2, 12)], 0, 1),
        ([(1, 5), (2, 3), (2, 6)], 1, 0),
        ([(1, 5), (2, 3)], 1, 0),
    ],
    ids=["a new coordinator", "one goes back", "a former one answers", "a new one goes on lower", "a new one is lower"],
)
def test_offset_monitor(answers: list[tuple[int, int]], decreases: int, outdated: int) -> None:
    monitor = OffsetMonitor("", "group")
    for broker, offset in answers:
        monitor.answered("group", broker, {PARTITION: offset})
    assert (len(monitor.decreases), monitor.outdated) == (decreases, outdated)
