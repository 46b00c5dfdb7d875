"""The settings of `sync-worker`."""

from typing import ClassVar

from pydantic import Field

from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.jobs.settings import JobSettings
from safevideo_common.protections.settings import ProtectionSettings


class SyncWorkerSettings(ConsumerSettings, JobSettings, ProtectionSettings):
    """Settings of `sync-worker`."""

    required_in_production: ClassVar[tuple[str, ...]] = ("encryption_key",)

    sync_interval_seconds: int = Field(
        3600, ge=60, le=7 * 86_400, description="Seconds between two incremental syncs of performers with Sharegram."
    )
    sync_max_deletion_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Part of all performers that a full sync may delete without a confirmation.",
    )
    port: int = Field(3003, ge=0, le=65535, description="Port of health and metrics; 0 takes a free one.")
