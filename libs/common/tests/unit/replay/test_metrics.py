"""The metrics of replays."""

from contextlib import suppress
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from safevideo_common.replay.metrics import ReplayMetrics, WaitReason
from safevideo_common.replay.plan import Coverage, ReplayCheckpoint


@dataclass
class Shown:
    """Metrics on a clock that the test moves, and what a scrape of them would find."""

    now: float = 0.0
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.metrics = ReplayMetrics(self.registry, lambda: self.now)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"safevideo_replay_{name}", labels)


def cursor(reached: int = 0, end: int = 100, **outcomes: int) -> ReplayCheckpoint:
    return ReplayCheckpoint({"0": reached}, {"0": end}, end, Coverage(None, None, True), by_outcome=outcomes)


def test_metrics_begin_at_zero() -> None:
    shown = Shown()
    for outcome in ("applied", "stale", "ignored", "waiting", "dead", "known"):
        assert shown.value("events_total", mode="real", outcome=outcome) == 0
        assert shown.value("events_total", mode="dry", outcome=outcome) == 0
    assert shown.value("throttled_seconds_total", reason="live_lag") == 0
    assert (shown.value("records_remaining", mode="dry"), shown.value("stalled_seconds")) == (0, 0)


def test_metrics_count_events_by_mode_and_outcome() -> None:
    shown = Shown()
    with (
        shown.metrics.track(cursor(), is_dry=False) as real,
        shown.metrics.track(cursor(), is_dry=True) as dry,
    ):
        real.update(cursor(10, applied=4, known=6))
        real.update(cursor(20, applied=9, known=6))
        dry.update(cursor(5, applied=5))
        assert shown.value("records_remaining", mode="real") == 80
        assert shown.value("records_remaining", mode="dry") == 95
    assert shown.value("events_total", mode="real", outcome="applied") == 9
    assert shown.value("events_total", mode="real", outcome="known") == 6
    assert shown.value("events_total", mode="dry", outcome="applied") == 5


def test_metrics_count_only_events_after_the_first_checkpoint() -> None:
    shown = Shown()
    with shown.metrics.track(cursor(50, applied=50), is_dry=False) as progress:
        progress.update(cursor(60, applied=60))
    assert shown.value("events_total", mode="real", outcome="applied") == 10


def test_metrics_count_repeated_events_of_a_dry_run_once() -> None:
    shown = Shown()
    with shown.metrics.track(cursor(), is_dry=True) as progress:
        for reached in (10, 0, 10, 20):
            progress.update(cursor(reached, applied=reached))
    assert shown.value("events_total", mode="dry", outcome="applied") == 20


def test_metrics_have_no_gauge_of_an_ended_replay() -> None:
    shown = Shown()
    with suppress(RuntimeError), shown.metrics.track(cursor(), is_dry=False):
        shown.now = 500
        assert (shown.value("records_remaining", mode="real"), shown.value("stalled_seconds")) == (100, 500)
        raise RuntimeError
    assert (shown.value("records_remaining", mode="real"), shown.value("stalled_seconds")) == (0, 0)


def test_idle_seconds_is_the_maximum_of_all_replays() -> None:
    shown = Shown()
    with (
        shown.metrics.track(cursor(), is_dry=False) as stuck,
        shown.metrics.track(cursor(), is_dry=False) as moving,
    ):
        shown.now = 60
        stuck.update(cursor())
        moving.update(cursor(1))
        shown.now = 90
        assert shown.value("stalled_seconds") == 90
        stuck.update(cursor(1))
        assert shown.value("stalled_seconds") == 30


def test_idle_seconds_excludes_deliberate_waits() -> None:
    shown = Shown()
    with shown.metrics.track(cursor(), is_dry=False) as progress:
        shown.now = 60
        progress.record_wait(WaitReason.LIVE_LAG, 0.5)
        shown.now = 61
        assert shown.value("stalled_seconds") == 1
    assert shown.value("throttled_seconds_total", reason="live_lag") == 0.5
    assert shown.value("throttled_seconds_total", reason="throttle") == 0


def test_metrics_count_deleted_records_once() -> None:
    shown, overtaken = Shown(), cursor()
    with shown.metrics.track(cursor(), is_dry=False) as progress:
        overtaken.skip_deleted(0, 30)
        progress.update(overtaken)
        progress.update(overtaken)
        assert shown.value("records_remaining", mode="real") == 70
    assert shown.value("records_expired_total") == 30
