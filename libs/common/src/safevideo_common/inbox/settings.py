"""Settings of every process that consumes."""

from pydantic import Field, ValidationInfo, field_validator

from safevideo_common.events.topics import TOPIC_RETENTION_DAYS
from safevideo_common.settings import CommonSettings


class ConsumerSettings(CommonSettings):
    """Settings of a consumer. The defaults fit one worker process per core."""

    batch_records: int = Field(500, ge=1, le=5000, description="Events of one transaction at most.")
    consumer_concurrency: int = Field(
        2,
        ge=1,
        le=8,
        description="Transactions under way at once, over different partitions. SQLite takes one at a time.",
    )
    dlq_rate_limit: float = Field(
        0.5, gt=0, le=1, description="Share of the latest events that may go dead before the worker halts."
    )
    dlq_rate_window: int = Field(1000, ge=1, description="How many of the latest events that share is of.")
    dlq_rate_minimum: int = Field(100, ge=1, description="Fewer dead events than this never halt the worker.")
    retry_initial_seconds: float = Field(
        1.0, gt=0, description="First delay before an event that must wait is retried."
    )
    retry_max_seconds: float = Field(300.0, gt=0, description="Longest delay between two tries of one event.")
    retry_max_attempts: int = Field(10, ge=1, description="Tries of a waiting event before it is dead.")
    retry_scan_seconds: float = Field(1.0, gt=0, description="Seconds between looks for waiting events that are due.")
    inbox_retention_days: int = Field(
        TOPIC_RETENTION_DAYS + 8,
        ge=TOPIC_RETENTION_DAYS,
        description="Days that a settled event stays in the inbox: as long as the log may deliver it again.",
    )
    inbox_dead_days: int = Field(
        90, ge=TOPIC_RETENTION_DAYS, validate_default=True, description="Days that a dead event stays in the inbox."
    )

    @field_validator("inbox_dead_days")
    @classmethod
    def _dead_stay_longest(cls, days: int, info: ValidationInfo) -> int:
        if days < info.data.get("inbox_retention_days", days):
            raise ValueError("must not be less than INBOX_RETENTION_DAYS")
        return days
