"""The settings of `sync-worker`."""

from pydantic import Field

from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.jobs.settings import JobSettings
from safevideo_common.protections.settings import ProtectionSettings


class SyncWorkerSettings(ConsumerSettings, JobSettings, ProtectionSettings):
    """Settings of `sync-worker`."""

    port: int = Field(3003, ge=0, le=65535, description="Port of health and metrics; 0 takes a free one.")
