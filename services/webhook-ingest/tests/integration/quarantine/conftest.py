"""An endpoint that only verifies signatures and fills the quarantine."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import aiohttp
import pytest
from aiohttp import web
from cryptography.fernet import Fernet
from prometheus_client import CollectorRegistry
from sqlalchemy import select

from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import rejected_webhooks as table
from safevideo_common.encryption import Cipher, EncryptionKeys, Purpose
from safevideo_common.errors import WebhookSignatureInvalid
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.quarantine.limits import RetentionLimits
from safevideo_common.service import background_task, run_until_failure
from safevideo_common.web.app import SUPERVISOR, base_app
from safevideo_common.web.correlation import CORRELATION
from safevideo_common.web.responses import success
from safevideo_common.webhooks.signatures import SCHEMES, environment_secrets
from webhook_ingest.quarantine import QuarantineMetrics, QuarantineQueue, QuarantineWriter
from webhook_ingest.settings import IngestSettings

PATH: Final = "/webhooks/sharegram"
SECRETS: Final = environment_secrets("the-secret-of-these-tests")
PER_MINUTE: Final = 1000


@dataclass(slots=True)
class Endpoint:
    """A running endpoint and the content of its quarantine."""

    base_url: str
    cipher: Cipher
    registry: CollectorRegistry
    database: Database
    clients: AsyncExitStack

    async def client(self, address: str = "127.0.0.1") -> aiohttp.ClientSession:
        """Return a client that sends from one of this machine's addresses."""
        connector = aiohttp.TCPConnector(local_addr=(address, 0), limit=32)
        return await self.clients.enter_async_context(aiohttp.ClientSession(self.base_url, connector=connector))

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("safevideo_quarantined_webhooks_total", {"outcome": outcome}) or 0

    async def bodies(self) -> list[bytes]:
        """Return the bodies in the table, in order of reception."""
        async with self.database.read_connection() as reading:
            rows = await reading.execute(
                select(table.c.body, table.c.fingerprint).order_by(table.c.received_at, table.c.id)
            )
            return [self.cipher.decrypt(row.body, row.fingerprint) for row in rows]


@asynccontextmanager
async def serve_endpoint(
    settings: IngestSettings, database: Database, log: FilteringBoundLogger, limits: RetentionLimits
) -> AsyncIterator[Endpoint]:
    """Serve until the block ends; at the end the rest of the queue is written."""
    registry, cipher = CollectorRegistry(), _new_cipher()
    metrics = QuarantineMetrics(registry)
    app = base_app(log, registry)

    async def serve(app: web.Application) -> AsyncIterator[None]:
        queue = QuarantineQueue(PER_MINUTE, metrics)
        writer = QuarantineWriter(queue, database, cipher, limits, clock=utc_now, logger=log, metrics=metrics)
        app.router.add_post(PATH, partial(receive, queue))
        async with background_task(app, "quarantine", writer.run):
            yield

    app.cleanup_ctx.append(serve)
    app[SUPERVISOR].max_failures = 1  # nothing is started again: each failure shows
    async with run_until_failure(app, settings) as (port, failed), AsyncExitStack() as clients:
        yield Endpoint(f"http://127.0.0.1:{port}", cipher, registry, database, clients)
        if failed.done():
            failed.result()


async def receive(queue: QuarantineQueue, request: web.Request) -> web.Response:
    body, now = await request.read(), utc_now()
    try:
        SCHEMES["any"].verify(request.headers, body, SECRETS, now)
    except WebhookSignatureInvalid as error:
        queue.offer_request(
            request.headers, body, error,
            received_at=now, remote=request.remote or "unknown", correlation=request[CORRELATION],
        )  # fmt: skip
        raise
    return success({})


OpenEndpoint = Callable[[Database, RetentionLimits], AbstractAsyncContextManager[Endpoint]]


@pytest.fixture
def open_endpoint(settings: IngestSettings, log: FilteringBoundLogger) -> OpenEndpoint:
    return lambda database, limits: serve_endpoint(settings, database, log, limits)


@pytest.fixture
async def endpoint(open_endpoint: OpenEndpoint, database: Database) -> AsyncIterator[Endpoint]:
    """The endpoint, on each kind of database."""
    async with open_endpoint(database, RetentionLimits()) as endpoint:
        yield endpoint


@pytest.fixture
async def client(endpoint: Endpoint) -> aiohttp.ClientSession:
    return await endpoint.client()


def _new_cipher() -> Cipher:
    return EncryptionKeys.parse(Fernet.generate_key().decode()).cipher(Purpose.QUARANTINED_WEBHOOK)
