"""A process that begins a verification for the work `kyc:1`, and prints its id. Arguments: database, simulator."""

import asyncio
import logging
import sys

import structlog
from prometheus_client import CollectorRegistry

from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.sharegram.client import CallProtections, open_sharegram
from safevideo_common.sharegram.idempotency import StoredIdempotencyKeys
from safevideo_common.sharegram.operations import SharegramCaller
from safevideo_common.sharegram.settings import SharegramSettings


async def main(database_url: str, base_url: str) -> None:
    settings = SharegramSettings.model_validate(
        {
            "sharegram_api_url": f"{base_url}/v1",
            "sharegram_api_key": "planted-api-key-0123456789",
            "sharegram_secret_key": "planted-secret-key-0123456789",
        }
    )
    logger = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)
    )
    async with Database.open(database_url, timeout=20) as database:
        keys = StoredIdempotencyKeys(database, utc_now)
        async with open_sharegram(settings, CallProtections(), keys, CollectorRegistry(), logger, utc_now) as sharegram:
            started = await sharegram.start_verification(
                SharegramCaller.job(), work="kyc:1", performer_id="sg_1", fields={"documents": ["doc_1"]}
            )
            print(started.verification_id)


asyncio.run(main(*sys.argv[1:]))
