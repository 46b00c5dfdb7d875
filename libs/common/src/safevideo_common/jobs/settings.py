"""Settings of every process that runs jobs."""

from pydantic import Field

from safevideo_common.events.topics import TOPIC_RETENTION_DAYS
from safevideo_common.settings import CommonSettings


class JobSettings(CommonSettings):
    """Settings of the job worker."""

    job_concurrency: int = Field(200, ge=1, le=1000, description="Jobs that each process runs at once.")
    job_lease_seconds: float = Field(
        30.0, ge=1, le=3600, description="Seconds without a heartbeat until another worker gets the job."
    )
    job_poll_seconds: float = Field(
        2.0, gt=0, le=60, description="Seconds between two polls for due jobs, in case a message was lost."
    )
    job_retry_initial_seconds: float = Field(
        5.0, gt=0, le=86_400, description="First delay before a failed job is retried."
    )
    job_retry_max_seconds: float = Field(
        900.0, gt=0, le=7 * 86_400, description="Longest delay between two attempts at one job."
    )
    job_retention_days: int = Field(
        TOPIC_RETENTION_DAYS, ge=1, le=3650, description="Days that a finished job is kept."
    )
