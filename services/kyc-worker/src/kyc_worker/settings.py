"""The settings of `kyc-worker`."""

from pydantic import Field

from safevideo_common.domain.kyc import AUTO_APPROVE_SCORE
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.jobs.settings import JobSettings
from safevideo_common.protections.settings import ProtectionSettings


class KycWorkerSettings(ConsumerSettings, JobSettings, ProtectionSettings):
    """Settings of `kyc-worker`."""

    port: int = Field(3002, ge=0, le=65535, description="Port of health and metrics; 0 takes a free one.")
    kyc_auto_approve_score: float = Field(
        AUTO_APPROVE_SCORE,
        ge=0,
        le=100,
        description="Minimum score at which a passed verification needs no manual review.",
    )
