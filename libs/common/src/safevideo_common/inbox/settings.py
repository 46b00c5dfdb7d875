"""Settings of every process that consumes."""

from pydantic import Field, ValidationInfo, field_validator

from safevideo_common.events.topics import INBOX_DAYS, TOPIC_RETENTION_DAYS
from safevideo_common.settings import CommonSettings


class ConsumerSettings(CommonSettings):
    """Settings of a consumer. The defaults fit one worker process per core."""

    batch_records: int = Field(500, ge=1, le=5000, description="Maximum number of events in one transaction.")
    consumer_concurrency: int = Field(
        2,
        ge=1,
        le=8,
        description="Consume loops: concurrent transactions over different partitions. SQLite runs one at a time.",
    )
    dlq_rate_limit: float = Field(
        0.5, gt=0, le=1, description="Fraction of the recent events that may become dead before the worker halts."
    )
    dlq_rate_window: int = Field(1000, ge=1, le=1_000_000, description="Number of recent events for that fraction.")
    dlq_rate_minimum: int = Field(
        100, ge=1, le=1_000_000, description="Minimum number of dead events before the worker halts."
    )
    retry_initial_seconds: float = Field(
        1.0, gt=0, le=86_400, description="First delay before a waiting event is retried."
    )
    retry_max_seconds: float = Field(
        300.0, gt=0, le=7 * 86_400, description="Longest delay between two attempts at one event."
    )
    retry_max_attempts: int = Field(
        10, ge=1, le=1_000_000, description="Attempts at a waiting event before it becomes dead."
    )
    retry_scan_seconds: float = Field(
        1.0, gt=0, le=3600, description="Seconds between two scans for waiting events that are due."
    )
    inbox_retention_days: int = Field(
        INBOX_DAYS,
        ge=TOPIC_RETENTION_DAYS,
        le=3650,
        description="Days that a processed event stays in the inbox: as long as Kafka may deliver it again.",
    )
    inbox_dead_days: int = Field(
        90,
        ge=TOPIC_RETENTION_DAYS,
        le=36_500,
        validate_default=True,
        description="Days that a dead event stays in the inbox.",
    )

    @field_validator("inbox_dead_days")
    @classmethod
    def _dead_stay_longest(cls, days: int, info: ValidationInfo) -> int:
        if days < info.data.get("inbox_retention_days", days):
            raise ValueError("must not be less than INBOX_RETENTION_DAYS")
        return days
