"""The settings of `kyc-worker`."""

from pydantic import Field, SecretStr

from safevideo_common.documents.settings import KycSettings
from safevideo_common.encryption import EncryptionKeys
from safevideo_common.inbox.settings import ConsumerSettings
from safevideo_common.jobs.settings import JobSettings
from safevideo_common.protections.settings import ProtectionSettings
from safevideo_common.sharegram.settings import SharegramSettings


class KycWorkerSettings(KycSettings, SharegramSettings, ConsumerSettings, JobSettings, ProtectionSettings):
    """Settings of `kyc-worker`."""

    port: int = Field(3002, ge=0, le=65535, description="Port of health and metrics; 0 takes a free one.")
    encryption_key: SecretStr | None = Field(
        None, description="The same as for the gateway. Without it no KYC request is sent to Sharegram."
    )

    def encryption_keys(self) -> EncryptionKeys | None:
        """Return the keys of KYC documents, or None without a key. Raises `StartupError` for a malformed key."""
        return EncryptionKeys.parse(self.encryption_key.get_secret_value()) if self.encryption_key else None
