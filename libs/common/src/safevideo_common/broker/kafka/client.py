"""How a client of Kafka is kept connected, whatever becomes of the brokers."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from operator import itemgetter
from typing import Final, Generic, NoReturn, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import ConsumerStoppedError, IllegalOperation, KafkaConnectionError, KafkaError

from safevideo_common.broker.delivery import RETRY_AFTER_SECONDS
from safevideo_common.broker.types import MAX_VALUE_BYTES, Record
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.tasks import cancel_and_wait

FIRST_DELAY_SECONDS: Final = 0.1
MAX_DELAY_SECONDS: Final = 5.0
GRACE_SECONDS: Final = 2.0
"""What a client gets to connect before its user goes on without it, and to say goodbye before it is cut off."""

_logger = logging.getLogger(__name__)


class Session(Protocol):
    """A client that is connected, with what it holds as long as it lasts."""

    @property
    def broken(self) -> "asyncio.Future[NoReturn]":
        """Gets an exception once the client is of no more use and a new one has to be made."""
        ...


S = TypeVar("S", bound=Session)


class ReconnectingClient(Generic[S]):
    """The present session, if there is one."""

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[S]]) -> None:
        self._connect = connect
        self._session: S | None = None
        self._up = asyncio.Event()

    @property
    def session(self) -> S:
        """The present session. Raises `BrokerUnavailable` while there is none."""
        if self._session is None:
            raise BrokerUnavailable("Kafka is away.", retry_after=RETRY_AFTER_SECONDS)
        return self._session

    async def session_within(self, seconds: float) -> S:
        """The session, waited for up to `seconds`. Raises `BrokerUnavailable` when there is none by then."""
        try:
            async with asyncio.timeout(seconds):
                await self._up.wait()
        except TimeoutError:
            pass
        return self.session

    async def keep(self) -> None:
        """Connect, and connect again when that fails or the session breaks, for ever. The delay grows, with jitter."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._live()
            # Whatever ends a session, the next one is the cure: this is the one owner of that decision.
            except Exception as error:  # noqa: BLE001
                _logger.warning("Kafka session ended, connecting again: %s", error)
            failures = 0 if loop.time() - began > MAX_DELAY_SECONDS else failures + 1
            await asyncio.sleep(_delay(failures))

    async def _live(self) -> None:
        async with self._connect() as session:
            self._session = session
            self._up.set()
            try:
                await session.broken
            finally:
                self._up.clear()
                self._session = None


def _delay(failures: int) -> float:
    ceiling = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(failures, 32))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter guards nothing


@asynccontextmanager
async def open_client(
    name: str, connect: Callable[[], AbstractAsyncContextManager[S]]
) -> AsyncIterator[ReconnectingClient[S]]:
    """Keep a session open by the background task `name`. Entering waits a moment for it and succeeds without it."""
    connection = ReconnectingClient(connect)
    keeper = asyncio.create_task(connection.keep(), name=name)
    try:
        try:
            await connection.session_within(GRACE_SECONDS)
        except BrokerUnavailable:
            _logger.warning("Kafka is away; %s starts without it", name)
        yield connection
    finally:
        await cancel_and_wait(keeper)


@asynccontextmanager
async def translate_errors(what: str, seconds: float) -> AsyncIterator[None]:
    """Bound a request by `seconds`, and turn every way in which Kafka fails to answer into `BrokerUnavailable`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    # Not all errors of aiokafka are a KafkaError: these two come from a client that was stopped under its user.
    except (KafkaError, ConsumerStoppedError, IllegalOperation, TimeoutError, OSError) as error:
        raise BrokerUnavailable(f"Kafka did not answer: {what}.", retry_after=RETRY_AFTER_SECONDS) from error


# How clients of aiokafka are ended in bounded time.
#
# Their own `stop` delivers what they hold and says goodbye first. While a broker hangs, that never comes to an end: an
# idempotent producer tries for ever. So they get a moment, and then are taken apart, which takes their private parts.


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """End it, within about two seconds. What it still holds is given up."""
    if not await _stopped(producer):
        producer._message_accumulator.fail_all(KafkaConnectionError())
        await _end(producer._sender.sender_task)
        await _close(producer.client)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """End it, within about two seconds. If it could not leave its group, the session timeout makes it leave."""
    if not await _stopped(consumer):
        coordinator, fetcher = consumer._coordinator, consumer._fetcher
        if coordinator is not None:
            for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task"):
                await _end(getattr(coordinator, name, None))
        if fetcher is not None:
            for task in (fetcher._fetch_task, *fetcher._pending_tasks):
                await _end(task)
        await _close(consumer._client)


async def run_shielded(name: str, work: Coroutine[object, object, None]) -> None:
    """Await `work`, which is short, to its end, also when this task is cancelled meanwhile; it is cancelled then."""
    task = asyncio.create_task(work, name=name)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


async def _stopped(client: AIOKafkaProducer | AIOKafkaConsumer) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_SECONDS):
            await client.stop()
            return True
    return False


async def _end(task: "asyncio.Task[object] | None") -> None:
    # The first cancellation asks some of them to finish what they have begun; the second ends that too.
    if task is not None:
        await cancel_and_wait(task, again_seconds=0.05)


async def _close(client: AIOKafkaClient) -> None:
    await client.close()
    if client._md_update_fut is not None:  # those who wait for it would wait for ever
        client._md_update_fut.cancel()


# Records as aiokafka gives them, and how large they may be.


FETCH_BYTES: Final = 16 * MAX_VALUE_BYTES
"""What one fetch holds in memory at most, all partitions of a broker together."""

_value: Final = itemgetter(1)


def record_of(found: ConsumerRecord) -> Record:
    """The same in our words. What other clients left out is empty."""
    headers = tuple(found.headers)
    if not all(map(_value, headers)):
        headers = tuple((name, value or b"") for name, value in headers)
    return Record(
        found.topic,
        found.partition,
        found.offset,
        found.timestamp,
        found.key or b"",
        found.value or b"",
        headers,
    )
