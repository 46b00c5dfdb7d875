"""What the gateway needs to know beyond the common settings."""

from pydantic import Field, field_validator

from safevideo_common.cache.redis import ANSWER_SECONDS
from safevideo_common.settings import CommonSettings


class GatewaySettings(CommonSettings):
    """Settings of `gateway`."""

    port: int = Field(3000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    sharegram_api_url: str = Field(
        "", description="Base of Sharegram's API, such as https://api.sharegram.com/v1; empty while not configured."
    )

    redis_seconds: float = Field(
        ANSWER_SECONDS, gt=0, le=2, description="Seconds to wait for Redis before doing without it."
    )

    @field_validator("sharegram_api_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("must begin with https:// or http://")
        return value
