"""The services in this process, on one stack, each on a free port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

import kyc_worker.app
import sync_worker.app
import webhook_ingest.app
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.broker.port import Broker
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.service import run_until_failure
from safevideo_common.settings import CommonSettings
from safevideo_testkit.consumer_groups import seek_groups_to_end
from safevideo_testkit.stacks import StackUnderTest
from sync_worker.settings import SyncWorkerSettings
from webhook_ingest.api import PATH
from webhook_ingest.settings import IngestSettings

SECRET = "the-secret-of-this-test-run"


@asynccontextmanager
async def whole_house(stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger) -> AsyncIterator[str]:
    """Ingest and both workers; gives the address of the webhooks. Leaving raises what a background task died of."""
    await begin_here(stack, broker)
    common = settings_of(stack)
    kyc, sync = KycWorkerSettings.model_validate(common), SyncWorkerSettings.model_validate(common)
    async with (
        served(kyc_worker.app.build_app(kyc, broker, log), kyc),
        served(sync_worker.app.build_app(sync, broker, log), sync),
        ingest_only(stack, broker, log) as url,
    ):
        yield url


@asynccontextmanager
async def ingest_only(stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger) -> AsyncIterator[str]:
    """Ingest alone; gives the address of the webhooks."""
    settings = IngestSettings.model_validate(settings_of(stack) | {"sharegram_webhook_secret": SECRET})
    async with served(webhook_ingest.app.build_app(settings, broker, log), settings) as port:
        yield f"http://127.0.0.1:{port}{PATH}"


async def begin_here(stack: StackUnderTest, broker: Broker) -> None:
    """Let the workers pass over what earlier tests have left in the broker's topics. Before any worker is started."""
    if stack.kafka_bootstrap_servers:
        groups = {each.SERVICE: each.TOPICS for each in (kyc_worker.app, sync_worker.app)}
        await seek_groups_to_end(stack.kafka_bootstrap_servers, broker, groups)


def environment(stack: StackUnderTest) -> dict[str, str]:
    """The settings of `stack` as variables, for a service in a process of its own."""
    return {name.upper(): str(value) for name, value in settings_of(stack).items()}


def settings_of(stack: StackUnderTest) -> dict[str, object]:
    """What all services want to know, on `stack`."""
    return {
        "host": "127.0.0.1",
        "port": 0,
        "database_url": stack.database_url,
        "redis_url": stack.redis_url,
        "kafka_bootstrap_servers": stack.kafka_bootstrap_servers,
        "safevideo_env": "development",
        "spool_dir": str(stack.log_folder / "spool"),
    }


@asynccontextmanager
async def served(app: web.Application, settings: CommonSettings) -> AsyncIterator[int]:
    """`app` on a port. Leaving raises what a background task died of."""
    async with run_until_failure(app, settings) as (port, failed):
        yield port
        _raise_what_died(failed)


def _raise_what_died(failed: "asyncio.Future[None]") -> None:
    if failed.done() and not failed.cancelled():
        failed.result()
