"""Calls to Sharegram by commands, through the breaker, fallback mode, rate budget and keys of the services."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry
from pydantic import Field

from safevideo_cli.environment import open_database
from safevideo_cli.redis_services import REDIS_SECONDS
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger, LogSink, build_logger
from safevideo_common.protections.runtime import open_protections
from safevideo_common.protections.settings import ProtectionSettings
from safevideo_common.settings import load_settings
from safevideo_common.sharegram.client import SharegramClient, open_sharegram
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys


class CallSettings(ProtectionSettings):
    """Settings of a command that calls Sharegram. It needs no Kafka."""

    kafka_bootstrap_servers: str = Field("", description="Not used.")


@asynccontextmanager
async def open_client() -> AsyncIterator[tuple[SharegramClient, Database, FilteringBoundLogger]]:
    """Open the client with its database and logger. A rejected call raises `CircuitBreakerOpen` or `FallbackActive`."""
    settings = load_settings(CallSettings)
    logger = build_logger("safevideo", LogSink(None, stdout=False))
    async with (
        open_database() as database,
        open_protections(settings, database, logger, seconds=REDIS_SECONDS) as protections,
        open_sharegram(
            settings,
            protections.around_calls,
            StoredIdempotencyKeys(database, utc_now),
            CollectorRegistry(),
            logger,
            utc_now,
        ) as client,
    ):
        yield client, database, logger
