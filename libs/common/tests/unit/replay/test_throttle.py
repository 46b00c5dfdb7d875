"""The throttle of a replay."""

from collections import defaultdict

import pytest

from safevideo_common.inbox.group_member import LagTrend
from safevideo_common.replay.metrics import WaitReason
from safevideo_common.replay.throttle import CHECK_INTERVAL, Throttle


class Time:
    """Passes while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.checks = 0
        self.waits: dict[WaitReason, float] = defaultdict(float)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def check(self) -> None:
        self.checks += 1

    def record_wait(self, wait: WaitReason, seconds: float) -> None:
        self.waits[wait] += seconds


@pytest.mark.parametrize(("per_second", "seconds"), [(10, 100), (1000, 1), (1, 1000)])
async def test_throttle_limits_the_rate(per_second: int, seconds: float) -> None:
    time = Time()
    throttle = Throttle(per_second, LagTrend(), time.record_wait, now=time, sleep=time.sleep)
    events = 0
    while events < 1000:
        batch = min(throttle.max_batch, 1000 - events)
        events += batch
        await throttle.wait(batch, time.check)
    assert time.now == pytest.approx(seconds, rel=0.01)
    assert time.checks >= time.now / 1.1, "a cancellation is found within a second"
    assert time.waits == {WaitReason.THROTTLE: pytest.approx(time.now)}, "all waits are recorded"


async def test_throttle_does_not_delay_slow_work_and_has_a_small_burst() -> None:
    time = Time()
    throttle = Throttle(100, LagTrend(), time.record_wait, now=time, sleep=time.sleep)
    time.now += 60
    before = time.now
    await throttle.wait(100, time.check)
    assert time.now - before == pytest.approx(1 - CHECK_INTERVAL)


async def test_throttle_waits_while_the_live_lag_grows() -> None:
    time, lag, looks = Time(), LagTrend(), iter([6000, 7000, 7000])
    lag.update(5000)

    async def check() -> None:
        lag.update(next(looks))

    await Throttle(1_000_000, lag, time.record_wait, now=time, sleep=time.sleep).wait(1, check)
    assert lag.latest == 7000
    assert next(looks, None) is None, "it went on once the lag no longer grew"
    assert time.waits[WaitReason.LIVE_LAG] == 2 * CHECK_INTERVAL


@pytest.mark.parametrize(
    ("looks", "is_growing"),
    [
        ([], False),
        ([900], False),
        ([900, 1500], True),
        ([1500, 1400], False),
        ([1500, 0], False),
        ([5000, 5000], False),
    ],
)
def test_lag_trend_grows_only_above_the_significant_lag(looks: list[int], is_growing: bool) -> None:
    lag = LagTrend()
    for records in looks:
        lag.update(records)
    assert lag.is_growing is is_growing
