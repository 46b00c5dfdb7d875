"""What can be said of the parent without a process."""

import pytest

from webhook_ingest.adapters.sibling_metrics import merged
from webhook_ingest.workers.heartbeats import Heartbeats
from webhook_ingest.workers.parent import MOST_DELAY_SECONDS, delay_seconds


def test_who_dies_again_and_again_is_started_later_and_later_up_to_a_bound() -> None:
    for deaths, seconds in [(0, 0.2), (1, 0.2), (2, 0.4), (5, 3.2), (9, 30.0), (10_000, 30.0)]:
        assert seconds * 0.75 <= delay_seconds(deaths) <= seconds * 1.25
    assert MOST_DELAY_SECONDS == 30.0


def test_the_figures_of_workers_stand_together_metric_by_metric() -> None:
    one = b'# HELP a A.\n# TYPE a counter\na_total{x="{"} 1.0\n# HELP b B.\n# TYPE b gauge\nb 2.0\n'
    two = b'# HELP a A.\n# TYPE a counter\na_total{x="{"} 3.0\n# HELP b B.\n# TYPE b gauge\nb 4.0\n'
    assert merged([(1, one), (2, two)]) == (
        b'# HELP a A.\n# TYPE a counter\na_total{worker="1",x="{"} 1.0\na_total{worker="2",x="{"} 3.0\n'
        b'# HELP b B.\n# TYPE b gauge\nb{worker="1"} 2.0\nb{worker="2"} 4.0\n'
    )


class Watch:
    """A clock to move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_who_has_not_beaten_for_too_long_hangs(watch: Watch) -> None:
    heartbeats = Heartbeats(2, 30.0, clock=watch)
    heartbeats.beat(1)
    heartbeats.beat(2)
    for _ in range(6):
        watch.now += heartbeats.look_seconds
        heartbeats.beat(2)
        assert heartbeats.silent([1, 2]) == []
    watch.now += heartbeats.look_seconds
    assert heartbeats.silent([1, 2]) == [1]
    heartbeats.beat(1)  # as the parent does when it starts it again
    assert heartbeats.silent([1, 2]) == []


def test_when_the_parent_was_stopped_too_nobody_is_taken_to_hang(watch: Watch) -> None:
    heartbeats = Heartbeats(1, 30.0, clock=watch)
    heartbeats.beat(1)
    watch.now += 3600.0
    assert heartbeats.silent([1]) == []
    for _ in range(6):
        watch.now += heartbeats.look_seconds
        assert heartbeats.silent([1]) == []
    watch.now += heartbeats.look_seconds
    assert heartbeats.silent([1]) == [1]
