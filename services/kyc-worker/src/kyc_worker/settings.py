"""The settings of `kyc-worker`."""

from typing import ClassVar

from pydantic import Field

from safevideo_common.auth.sessions import SSO_DB
from safevideo_common.documents.settings import KycSettings
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.jobs.settings import JobSettings
from safevideo_common.protections.settings import ProtectionSettings


class KycWorkerSettings(KycSettings, ConsumerSettings, JobSettings, ProtectionSettings):
    """Settings of `kyc-worker`."""

    required_in_production: ClassVar[tuple[str, ...]] = ("encryption_key",)

    port: int = Field(3002, ge=0, le=65535, description="Port of health and metrics; 0 takes a free one.")
    redis_sso_db: int = Field(SSO_DB, ge=0, le=15, description="As for the gateway: sessions of an erased person end.")
    kyc_retention_days_verified: int = Field(
        2557,
        ge=1,
        le=36_500,
        description="Days after its last change for which a verified or expired request keeps documents and applicant.",
    )
    kyc_retention_days_rejected: int = Field(
        365, ge=1, le=36_500, description="The same, of a rejected request. Its decision and reason are never deleted."
    )
    kyc_pending_days: int = Field(
        14, ge=1, le=365, description="Days after which a KYC request expires whose documents did not come."
    )
