"""Settings of every process that handles KYC requests and their documents."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from safevideo_common.domain.kyc import AUTO_APPROVE_SCORE, VALIDITY, KycRules
from safevideo_common.errors import StartupError
from safevideo_common.settings import ProcessSettings

_BUCKET: Final = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?")


class KycSettings(ProcessSettings):
    """Settings that the gateway and kyc-worker share. They must be equal in both."""

    upload_dir: Path = Field(
        Path("/var/lib/safevideo/documents"),
        description="Folder of the encrypted KYC documents. The gateway and kyc-worker share it.",
    )
    upload_bucket: str = Field(
        "",
        description="s3://bucket or s3://bucket/prefix: KYC documents are objects there, instead of files in "
        "UPLOAD_DIR. The same in the gateway and kyc-worker, as the S3 settings are.",
    )
    s3_endpoint: str = Field("", description="Address of another service with the API of S3. Empty: AWS.")
    s3_region: str = Field("us-east-1", min_length=1, description="Region of the bucket.")
    s3_access_key_id: str = Field(
        "", description="Access key. Empty: the role of the pod, of the container or of the machine."
    )
    s3_secret_access_key: SecretStr | None = Field(None, description="Its secret.")
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

    @field_validator("upload_bucket")
    @classmethod
    def _is_bucket(cls, value: str) -> str:
        if value and not _BUCKET.fullmatch(value):
            raise ValueError("must be s3://bucket or s3://bucket/prefix")
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query):
            raise ValueError("must be https://host or http://host, without a user")
        return value

    @model_validator(mode="after")
    def _has_both_keys_or_none(self) -> Self:
        if bool(self.s3_access_key_id) != (self.s3_secret_access_key is not None):
            raise StartupError("S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY belong together. Set both, or none.")
        return self

    def kyc_rules(self) -> KycRules:
        """Return the settings that decide about requests."""
        return KycRules(self.kyc_auto_approve_score, timedelta(days=self.kyc_validity_days))
