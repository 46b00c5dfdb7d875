"""A webhook-ingest on the embedded broker that gets requests through a socket."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet

from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Reader
from safevideo_common.broker.types import Record, TopicPartition
from safevideo_common.database.migrate import migrate
from safevideo_common.events.topics import KYC, OTHER, PERFORMER, all_topics
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from safevideo_common.service import run_until_failure
from safevideo_testkit.fuzz.cases import Case
from safevideo_testkit.fuzz.checks import check_records, check_responses
from safevideo_testkit.fuzz.webhooks import SECRETS
from webhook_ingest.app import build_app
from webhook_ingest.settings import IngestSettings

LAST_REQUEST: Final = b"GET /the-end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
"""Sent after each case, so that ingest closes the connection; if it becomes part of a body, a timeout does."""

TIMEOUT_SECONDS: Final = 10.0
MAX_RECORDS: Final = 1000
_READ_BYTES: Final = 1 << 16
_LAST_RESPONSE: Final = re.compile(rb"(Connection: close\r\n|HTTP/1\.1 413 ).*?\r\n\r\n\{.*\}\Z", re.DOTALL)
"""Also 413: for some seconds ingest reads and discards the rest of a rejected body."""

_ERROR: Final = " ERROR "


class FuzzedIngest:
    """A running webhook-ingest. `send` is for callers outside of the event loop, such as hypothesis."""

    def __init__(self, runner: asyncio.Runner, port: int, failed: "asyncio.Future[None]", reader: Reader) -> None:
        self._runner = runner
        self._port = port
        self._failed = failed
        self._reader = reader
        self._read_to = dict.fromkeys((TopicPartition(topic, 0) for topic in (KYC, PERFORMER, OTHER)), 0)

    def send(self, case: Case) -> None:
        """Send a case. Raises `AssertionError` if the responses or the published records are not as expected."""
        self._runner.run(self._send(case))

    async def _send(self, case: Case) -> None:
        responses = await _responses_to(case.request + LAST_REQUEST, self._port)
        accepted = responses.count(b'"webhookId":')
        records = await self._new_records(
            accepted
        )  # also if the responses are wrong: they do not belong to the next case
        check_responses(case, responses, accepted)
        check_records(case, records)
        if self._failed.done():
            self._failed.result()

    async def _new_records(self, expected: int) -> list[Record]:
        """Return the records since the last call, at least `expected`; those of the spool may come late."""
        found: list[Record] = []
        end = time.monotonic() + TIMEOUT_SECONDS
        while True:
            for partition, offset in self._read_to.items():
                records = await self._reader.read(partition, offset, MAX_RECORDS)
                self._read_to[partition] = offset + len(records)
                found += records
            if len(found) >= expected:
                return found
            assert time.monotonic() < end, "accepted, and not published"
            await asyncio.sleep(0.01)


async def _responses_to(request: bytes, port: int) -> bytes:
    """Return all bytes until the connection ends, or until a response that is the last one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            writer.write(request)
            while not _LAST_RESPONSE.search(received) and (more := await reader.read(_READ_BYTES)):
                received += more
    except ConnectionError:
        pass  # ingest need not read the rest of a rejected request
    except TimeoutError:
        raise AssertionError(f"no response and no end of the connection after {received!r}") from None
    finally:
        writer.transport.abort()
    return received


@contextmanager
def fuzzed_ingest(folder: Path) -> Iterator[FuzzedIngest]:
    """Run a webhook-ingest with its files in `folder`. Raises `AssertionError` at the end if it logged an error."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        port, failed, reader = runner.run(stack.enter_async_context(_running(folder)))
        try:
            yield FuzzedIngest(runner, port, failed, reader)
        finally:
            runner.run(stack.aclose())
    errors = [line for path in (folder / "logs").iterdir() for line in path.read_text().splitlines() if _ERROR in line]
    assert not errors, f"{len(errors)} errors were logged, the first being: {errors[0]}"


@asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[tuple[int, "asyncio.Future[None]", Reader]]:
    settings = _settings(folder)
    await migrate(settings.database_url.get_secret_value())
    sink = LogSink(folder / "logs", stdout=False)
    try:
        async with open_broker("", folder / "log") as broker:
            await broker.create_topics(all_topics(partitions=1))
            app = build_app(settings, broker, build_logger("webhook-ingest", sink))
            async with run_until_failure(app, settings) as (port, failed), broker.reader("fuzz") as reader:
                yield port, failed, reader
    finally:
        sink.close()


def _settings(folder: Path) -> IngestSettings:
    """Return settings with short timeouts, and with limits that do not hide the tested checks."""
    return IngestSettings.model_validate({
        "host": "127.0.0.1",
        "port": 0,
        "database_url": f"sqlite+aiosqlite:///{folder}/ingest.db",
        "kafka_bootstrap_servers": "",
        "sharegram_webhook_secret": ",".join(SECRETS),
        "encryption_key": Fernet.generate_key().decode(),
        "spool_dir": str(folder / "spool"),
        "header_timeout_seconds": 1.0,
        "body_timeout_seconds": 0.5,
        "shutdown_seconds": 1.0,
        "failed_signatures_burst": 10**6,
        "failed_signatures_per_minute": 10**6,
        "throttled_client_delay_seconds": 0.0,
        "quarantine_rows": 1000,
        "quarantine_per_minute": 10**6,
    })  # fmt: skip
