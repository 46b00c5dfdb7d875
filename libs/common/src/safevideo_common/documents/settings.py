"""Settings of every process that handles KYC requests and their documents."""

from datetime import timedelta
from pathlib import Path

from pydantic import Field

from safevideo_common.domain.kyc import AUTO_APPROVE_SCORE, VALIDITY, KycRules
from safevideo_common.settings import ProcessSettings


class KycSettings(ProcessSettings):
    """Settings that the gateway and kyc-worker share. They must be equal in both."""

    upload_dir: Path = Field(
        Path("/var/lib/safevideo/documents"),
        description="Folder of the encrypted KYC documents. The gateway and kyc-worker share it.",
    )
    kyc_auto_approve_score: float = Field(
        AUTO_APPROVE_SCORE,
        ge=0,
        le=100,
        description="Minimum score at which a passed verification needs no manual review.",
    )
    kyc_validity_days: int = Field(
        VALIDITY.days,
        ge=31,
        le=36_500,
        description="Days after which a verified request expires, if its identity document does not expire before.",
    )

    def kyc_rules(self) -> KycRules:
        """Return the settings that decide about requests."""
        return KycRules(self.kyc_auto_approve_score, timedelta(days=self.kyc_validity_days))
