"""The model behind docs/capacity.md. It prints the tables of that page.

Its inputs are processor times an event, which `make bench` measures (docs/performance.md), and the time for which a
loop waits for the database. A loop that waits does not compute, so an event takes both times. Loops that overlap make
the prediction low. `test_capacity_model.py` compares the predictions with the measured points.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Final

INGEST_US: Final = 58.0
"""Processor time of `webhook-ingest` for a webhook of 1 kB."""
SPOOLED_US: Final = 85.0
"""The same while Kafka is unavailable."""
BESIDE_US: Final = 22.0
"""Load generator and broker, a webhook: what the run with two processes leaves of two cores."""
WORKER_US: Final = 73.0
"""Processor time of `sync-worker` for an event, with its outbox."""
HOT_US: Final = 75.0
"""The same if one event in ten is of one performer."""
JOB_US: Final = 107.0
"""Processor time of the job worker for a job that does nothing."""
PLAIN_US: Final = 2451.0
"""Processor time of FastStream, row by row."""
COMMIT_US: Final = 871.0
"""The wait for one commit, from the row-by-row run (353 a second at 1,926 µs) without the wait for its row."""
ROW_US: Final = 36.3
"""The wait for the rows of an event, from the run of ready-made rows (14,023 a second at 33 µs, 500 a commit)."""
JOB_WAIT_US: Final = 49.7
"""The wait for the writes of a job, from the run of the writes alone (12,237 a second at 32 µs)."""
BATCH: Final = 500
CORES: Final = 2

HEADROOM: Final = 0.6
"""The share of a limit for which one plans: the rest is for a lost replica, for peaks, and for short queues."""
EVENT_BYTES: Final = 1_400
"""A record of 1 kB with its headers."""
INBOX_ROW_BYTES: Final = 500
"""A row of the inbox with its indexes."""
DAY: Final = 86_400


def ingest_rate(processes: int, us: float = INGEST_US) -> float:
    """Return the webhooks a second of `processes`, which share two cores with load generator and broker."""
    return min(processes * 1e6 / us, CORES * 1e6 / (us + BESIDE_US))


def consume_rate(us: float = WORKER_US, batch: int = BATCH) -> float:
    """Return the events a second of one consumer with the processor time `us` an event."""
    return 1e6 / (us + ROW_US + COMMIT_US / batch)


def job_rate() -> float:
    """Return the jobs a second of one worker."""
    return 1e6 / (JOB_US + JOB_WAIT_US)


@dataclass(frozen=True, slots=True)
class Point:
    """A measured rate and its prediction."""

    what: str
    measured: int
    predicted: float

    @property
    def error(self) -> float:
        """Return the difference as a share of the measured rate."""
        return self.predicted / self.measured - 1


POINTS: Final = (
    Point("`webhook-ingest`, one process", 17_129, ingest_rate(1)),
    Point("`webhook-ingest`, two processes", 24_436, ingest_rate(2)),
    Point("`webhook-ingest`, all into the spool", 12_587, ingest_rate(1, SPOOLED_US)),
    Point("`sync-worker`", 10_571, consume_rate()),
    Point("`sync-worker`, one hot key", 9_931, consume_rate(HOT_US)),
    Point("`sync-worker`, 1,000,000 rows in the inbox", 10_341, consume_rate()),
    Point("the live worker of the replay benchmark", 8_491, consume_rate()),
    Point("FastStream, row by row", 289, consume_rate(PLAIN_US, batch=1)),
    Point("the job worker", 7_457, job_rate()),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rate of webhooks needs, with headroom."""

    rate: int

    @property
    def ingest(self) -> int:
        """Replicas of `webhook-ingest`, of one core each; two at least."""
        return max(2, ceil(self.rate / (1e6 / INGEST_US * HEADROOM)))

    @property
    def workers(self) -> int:
        """Replicas of `sync-worker`; two at least. A topic needs as many partitions."""
        return max(2, ceil(self.rate / (consume_rate() * HEADROOM)))

    @property
    def database_cores(self) -> float:
        """Cores that the database is busy with rows, if its wait is its work."""
        return self.rate * (ROW_US + COMMIT_US / BATCH) / 1e6

    @property
    def kafka_mb(self) -> float:
        """Megabytes a second that producers write; each replica writes as much."""
        return self.rate * EVENT_BYTES / 1e6

    @property
    def inbox_gb_a_day(self) -> float:
        """Gigabytes of inbox rows a day."""
        return self.rate * INBOX_ROW_BYTES * DAY / 1e9


RATES: Final = (200, 1_000, 10_000, 100_000)


def rows() -> Iterator[str]:
    """Yield the rows of both tables of the page."""
    for point in POINTS:
        yield f"| {point.what} | {point.measured:,} | {point.predicted:,.0f} | {point.error:+.0%} |"
    for plan in map(Plan, RATES):
        yield (
            f"| {plan.rate:,} | {plan.ingest} | {plan.workers} | {plan.database_cores:.1f} | {plan.kafka_mb:,.1f} "
            f"| {plan.inbox_gb_a_day:,.0f} |"
        )


if __name__ == "__main__":
    print("\n".join(rows()))
