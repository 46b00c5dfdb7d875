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
from safevideo_common.web.app import SUPERVISOR
from safevideo_testkit.stacks import StackUnderTest
from sync_worker.settings import SyncWorkerSettings
from webhook_ingest.api import PATH
from webhook_ingest.settings import IngestSettings

SECRET = "the-secret-of-this-test-run"


@asynccontextmanager
async def all_services(stack: StackUnderTest, broker: Broker, logger: FilteringBoundLogger) -> AsyncIterator[str]:
    """Run webhook-ingest and both workers; yield the URL of webhooks. Raise the error of a failed background task."""
    common = settings_of(stack)
    kyc, sync = KycWorkerSettings.model_validate(common), SyncWorkerSettings.model_validate(common)
    async with (
        serving(kyc_worker.app.build_app(kyc, broker, logger), kyc),
        serving(sync_worker.app.build_app(sync, broker, logger), sync),
        ingest_only(stack, broker, logger) as url,
    ):
        yield url


@asynccontextmanager
async def ingest_only(stack: StackUnderTest, broker: Broker, logger: FilteringBoundLogger) -> AsyncIterator[str]:
    """Run webhook-ingest; yield the URL of webhooks."""
    settings = IngestSettings.model_validate(settings_of(stack) | {"sharegram_webhook_secret": SECRET})
    async with serving(webhook_ingest.app.build_app(settings, broker, logger), settings) as port:
        yield f"http://127.0.0.1:{port}{PATH}"


def environment(stack: StackUnderTest) -> dict[str, str]:
    """Return the settings of `stack` as environment variables, for a service in a process of its own."""
    return {name.upper(): str(value) for name, value in settings_of(stack).items()}


def settings_of(stack: StackUnderTest) -> dict[str, object]:
    """Return the settings that all services share."""
    return {
        "host": "127.0.0.1",
        "port": 0,
        "database_url": stack.database_url,
        "redis_url": stack.redis_url,
        "kafka_bootstrap_servers": stack.kafka_bootstrap_servers,
        "safevideo_env": "development",
        "spool_dir": str(stack.log_folder / "spool"),
        "upload_dir": str(stack.log_folder / "documents"),
    }


@asynccontextmanager
async def serving(app: web.Application, settings: CommonSettings) -> AsyncIterator[int]:
    """Serve `app`; yield its port. Raise the error of a failed background task at the end."""
    app[SUPERVISOR].max_failures = 1  # nothing is started again: each failure shows
    async with run_until_failure(app, settings) as (port, failed):
        yield port
        _raise_failure(failed)


def _raise_failure(failed: "asyncio.Future[None]") -> None:
    if failed.done() and not failed.cancelled():
        failed.result()
