"""How clients of aiokafka are ended in bounded time.

Their own `stop` delivers what they hold and says goodbye first. While a broker hangs, that never comes to an end: an
idempotent producer tries for ever. So they get a moment, and then are taken apart, which takes their private parts.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError

from safevideo_common.cancellation import ended
from safevideo_common.messaging.kafka.connection import GRACE_SECONDS


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


async def uninterrupted(name: str, work: Coroutine[object, object, None]) -> None:
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
        await ended(task, again_seconds=0.05)


async def _close(client: AIOKafkaClient) -> None:
    await client.close()
    if client._md_update_fut is not None:  # those who wait for it would wait for ever
        client._md_update_fut.cancel()
