"""What can be said of the parent without a process."""

from webhook_ingest.adapters.sibling_metrics import merged
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
