import pytest
import structlog
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger

from safevideo_common.errors import BrokerUnavailable, NotFound
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.resilience.outages import Outage

UNAVAILABLE = BrokerUnavailable("Kafka does not answer.")
BEGAN = ("warning", {"event": "Relay waits", "code": "SERVICE_UNAVAILABLE", "reason": "Kafka does not answer."})


class OutageHarness:
    """An outage whose delays are recorded and take no time."""

    def __init__(self) -> None:
        self._lines = CapturingLogger()
        self.delays: list[float] = []
        logger: FilteringBoundLogger = structlog.wrap_logger(
            self._lines, processors=[], wrapper_class=structlog.make_filtering_bound_logger("INFO")
        )
        self.outage = Outage(
            logger, Backoff(1.0, 4.0), began="Relay waits", ended="Relay continues", sleep=self._record_delay
        )

    async def _record_delay(self, seconds: float) -> None:
        self.delays.append(seconds)

    def lines(self) -> list[tuple[str, object]]:
        return [(line.method_name, line.kwargs) for line in self._lines.calls]


@pytest.fixture
def harness() -> OutageHarness:
    return OutageHarness()


def ended_after(failures: int) -> tuple[str, object]:
    return "info", {"event": "Relay continues", "failures": failures}


async def test_outage_logs_once_when_it_begins_and_once_when_it_ends(harness: OutageHarness) -> None:
    for failing in (True, True, True, False, False):
        async with harness.outage.attempt():
            if failing:
                raise UNAVAILABLE
    assert harness.lines() == [BEGAN, ended_after(3)]


async def test_outage_logs_nothing_without_a_failure(harness: OutageHarness) -> None:
    async with harness.outage.attempt():
        pass
    assert harness.lines() == []


async def test_outage_sleeps_longer_after_each_failure_up_to_the_maximum(harness: OutageHarness) -> None:
    for _ in range(4):
        async with harness.outage.attempt():
            raise UNAVAILABLE
    assert all(
        ceiling / 2 <= delay <= ceiling for delay, ceiling in zip(harness.delays, (1.0, 2.0, 4.0, 4.0), strict=True)
    )


async def test_outage_starts_over_after_it_recovered_in_the_middle_of_an_attempt(harness: OutageHarness) -> None:
    for _ in range(2):
        async with harness.outage.attempt():
            harness.outage.recovered()
            raise UNAVAILABLE
    assert harness.lines() == [BEGAN, ended_after(1), BEGAN]
    assert max(harness.delays) <= 1.0


async def test_attempt_raises_other_errors(harness: OutageHarness) -> None:
    with pytest.raises(NotFound):
        async with harness.outage.attempt():
            raise NotFound("No such row.")
    assert (harness.lines(), harness.delays) == ([], [])


async def test_retry_returns_the_first_result(harness: OutageHarness) -> None:
    failures = iter([UNAVAILABLE, UNAVAILABLE])

    async def step() -> int:
        for failure in failures:
            raise failure
        return 7

    assert await harness.outage.retry(step) == 7
    assert harness.lines() == [BEGAN, ended_after(2)]
    assert len(harness.delays) == 2
