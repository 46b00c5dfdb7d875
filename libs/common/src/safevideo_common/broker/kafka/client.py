"""The clients of aiokafka: connecting them again, errors, stopping them in bounded time.

This module uses private attributes of aiokafka; see the section at the end. The only other one is `records.py`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final, Generic, NoReturn, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import ConsumerStoppedError, IllegalOperation, KafkaConnectionError, KafkaError
from aiokafka.protocol.group import LeaveGroupRequest

from safevideo_common.broker.delivery import RETRY_AFTER_SECONDS
from safevideo_common.broker.types import MAX_VALUE_BYTES
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.resilience.backoff import Backoff
from safevideo_common.tasks import cancel_and_wait, reset_as_os_error, wait_event

RECONNECT: Final = Backoff(initial=0.1, maximum=5.0)
STABLE_SECONDS: Final = 5.0
"""After this long a connection counts as stable: its failure begins a new outage."""

GRACE_SECONDS: Final = 2.0
"""A client has this long to connect before its user continues without it, and to stop before it is cut off."""

LEAVE_SECONDS: Final = 1.0
"""How long a consumer that was cut off waits for the broker to remove it from its group."""

FETCH_BYTES: Final = 16 * MAX_VALUE_BYTES
"""The most that one fetch holds in memory, for all partitions of a broker together."""

_logger = logging.getLogger(__name__)


class Session:
    """A connected client with the state that lasts as long as its connection."""

    def __init__(self) -> None:
        self._failed: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()

    def fail(self, error: BaseException) -> None:
        """End the session: a new client replaces this one."""
        if not self._failed.done():
            self._failed.set_exception(error)

    async def wait_failed(self) -> NoReturn:
        """Wait until the session fails, and raise the error."""
        await self._failed


S = TypeVar("S", bound=Session)


class ReconnectingClient(Generic[S]):
    """A client that connects again whenever its session fails. `run` is for one task."""

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[S]]) -> None:
        self._connect = connect
        self._session: S | None = None
        self._connected = asyncio.Event()
        self._failures = 0

    @property
    def current(self) -> S:
        """The current session. Raises `BrokerUnavailable` if there is none."""
        if self._session is None:
            raise BrokerUnavailable("Kafka is not connected.", retry_after=RETRY_AFTER_SECONDS)
        return self._session

    async def wait_for_session(self, seconds: float) -> S:
        """Return the session; wait up to `seconds` for it. Raises `BrokerUnavailable` if there is none then."""
        await wait_event(self._connected, seconds)
        return self.current

    async def run(self) -> NoReturn:
        """Connect, and connect again with backoff whenever that fails or the session fails."""
        while True:
            try:
                await self._run_session()
            except Exception as error:  # noqa: BLE001 - a new session is the remedy for every error, and only here
                self._failures += 1
                if self._failures == 1:  # one line per outage
                    _logger.warning("Kafka connection failed, connecting again: %s", error)
            await asyncio.sleep(RECONNECT.delay(self._failures))

    async def _run_session(self) -> NoReturn:
        async with self._connect() as session:
            stable = asyncio.get_running_loop().call_later(STABLE_SECONDS, self._reset_failures)
            self._session = session
            self._connected.set()
            try:
                await session.wait_failed()
            finally:
                self._connected.clear()
                self._session = None
                stable.cancel()

    def _reset_failures(self) -> None:
        self._failures = 0


@asynccontextmanager
async def open_client(
    name: str, connect: Callable[[], AbstractAsyncContextManager[S]]
) -> AsyncIterator[ReconnectingClient[S]]:
    """Keep a session open with the background task `name`. Waits a bounded time for it, and succeeds without it."""
    client = ReconnectingClient(connect)
    task = asyncio.create_task(client.run(), name=name)
    try:
        try:
            await client.wait_for_session(GRACE_SECONDS)
        except BrokerUnavailable:
            _logger.warning("Kafka is unavailable, %s starts without it", name)
        yield client
    finally:
        await cancel_and_wait(task)


@asynccontextmanager
async def translate_errors(request: str, seconds: float) -> AsyncIterator[None]:
    """Bound a request by `seconds`, and raise `BrokerUnavailable` for each way in which Kafka may fail to answer."""
    try:
        with reset_as_os_error():
            async with asyncio.timeout(seconds):
                yield
    # Two errors of aiokafka are no KafkaError. They come from a client that was stopped while it was in use.
    except (KafkaError, ConsumerStoppedError, IllegalOperation, TimeoutError, OSError) as error:
        raise BrokerUnavailable(f"Kafka did not answer: {request}.", retry_after=RETRY_AFTER_SECONDS) from error


async def run_shielded(name: str, work: Coroutine[object, object, None]) -> None:
    """Await `work`, which is short, to its end. If this task is cancelled meanwhile, raise that afterwards."""
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


# Private attributes of aiokafka 0.14. Two reasons:
#
# 1. `stop` first delivers what the client holds and leaves the group. While a broker hangs, that never ends: an
#    idempotent producer tries for ever. And a consumer waits to join, until all others have joined, before it leaves.
#    After `GRACE_SECONDS` the tasks of the client are ended one by one.
# 2. `AIOKafkaAdminClient.create_topics` raises AttributeError in a cluster without a controller.
#
# `test_aiokafka_has_the_private_attributes` fails if an upgrade renames one of them.

COORDINATOR_TASKS: Final = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Stop the producer within about two seconds. Gives up what it still holds."""
    if not await _stop_within_grace(producer):
        producer._message_accumulator.fail_all(KafkaConnectionError())
        await _end(producer._sender.sender_task)
        await _close(producer.client)


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop the consumer within about three seconds. If it cannot leave its group, the session timeout removes it."""
    if not await _stop_within_grace(consumer):
        coordinator, fetcher = consumer._coordinator, consumer._fetcher
        if coordinator is not None:
            for name in COORDINATOR_TASKS:
                await _end(getattr(coordinator, name, None))
            if isinstance(coordinator, GroupCoordinator):
                await _leave_group(coordinator)
        if fetcher is not None:
            for task in (fetcher._fetch_task, *fetcher._pending_tasks):
                await _end(task)
        await _close(consumer._client)


async def has_controller(admin: AIOKafkaAdminClient) -> bool:
    """Return True if the admin client knows the controller of the cluster, after it has asked for it."""
    client: AIOKafkaClient = admin._client
    if client.cluster.controller is None:
        await client.force_metadata_update()
    return client.cluster.controller is not None


async def _stop_within_grace(client: AIOKafkaProducer | AIOKafkaConsumer) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(GRACE_SECONDS):
            await client.stop()
            return True
    return False


async def _leave_group(coordinator: GroupCoordinator) -> None:
    """Leave the group, also while it waits for its members to join. They would wait for this one, and read nothing.

    The connection for requests of the group may wait for the answer to a join. A broker reads nothing from it until
    then, so this request takes the connection for fetches.
    """
    if coordinator.coordinator_id is None or not coordinator.member_id:
        return
    request = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(LEAVE_SECONDS):
            await coordinator._client.send(coordinator.coordinator_id, request)


async def _end(task: "asyncio.Task[object] | None") -> None:
    # Some tasks finish their work after the first cancellation. The second one ends them.
    if task is not None:
        await cancel_and_wait(task, again_seconds=0.05)


async def _close(client: AIOKafkaClient) -> None:
    await client.close()
    if client._md_update_fut is not None:  # otherwise its waiters wait for ever
        client._md_update_fut.cancel()
