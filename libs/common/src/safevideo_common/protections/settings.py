"""Settings of every process that calls Sharegram or shows the state of that."""

from pydantic import Field

from safevideo_common.settings import CommonSettings


class ProtectionSettings(CommonSettings):
    """The database of the breaker, and the rate of calls."""

    redis_recovery_db: int = Field(3, ge=0, le=15, description="Database of Redis with the circuit breakers.")
    sharegram_calls_per_second: float = Field(
        50.0, gt=0, le=10_000, description="Calls to Sharegram a second, of all processes together."
    )
    sharegram_calls_burst: int = Field(
        100, ge=1, le=100_000, description="Calls to Sharegram that may go out at once before that rate limits them."
    )
