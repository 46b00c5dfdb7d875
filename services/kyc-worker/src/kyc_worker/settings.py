"""The settings of `kyc-worker`."""

from pydantic import Field

from safevideo_common.documents.settings import KycSettings
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.jobs.settings import JobSettings
from safevideo_common.protections.settings import ProtectionSettings


class KycWorkerSettings(KycSettings, ConsumerSettings, JobSettings, ProtectionSettings):
    """Settings of `kyc-worker`."""

    port: int = Field(3002, ge=0, le=65535, description="Port of health and metrics; 0 takes a free one.")
