"""Settings of every process that handles KYC requests and their documents."""

from pathlib import Path

from pydantic import Field

from safevideo_common.domain.kyc import AUTO_APPROVE_SCORE
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
