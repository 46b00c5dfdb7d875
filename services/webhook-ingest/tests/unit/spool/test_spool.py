"""The spool on the event loop."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from prometheus_client import CollectorRegistry

from safevideo_common.broker.delivery import DeliveryTimeouts
from safevideo_common.broker.types import Message
from safevideo_common.observability.logs import FilteringBoundLogger
from webhook_ingest.spool.reporting import SpoolEvents
from webhook_ingest.spool.spool import Spool, SpoolAccounting
from webhook_ingest.spool.store import SegmentStore

SECONDS = 30.0
FIRST = Message("topic", b"a", b"1")
SECOND = Message("topic", b"a", b"2")


class NotifyingStore(SegmentStore):
    """A store that shows when the writer's thread appended."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.appended = threading.Event()

    def append(self, messages: Sequence[Message], at_ms: int) -> int:
        number = super().append(messages, at_ms)
        self.appended.set()
        return number


async def test_spool_returns_events_of_a_read_whose_callback_is_still_due(
    tmp_path: Path, log: FilteringBoundLogger
) -> None:
    store = NotifyingStore(tmp_path)
    with closing(DeliveryTimeouts(SECONDS)) as timeouts:
        spool = Spool(store, SpoolAccounting(1 << 20), timeouts, SpoolEvents(log, CollectorRegistry()))
        await spool.append(FIRST)
        waiting = asyncio.create_task(spool.next_batch(1))
        await asyncio.sleep(0)  # the read begins
        store.appended.clear()
        appended = spool.append(SECOND)
        assert store.appended.wait(SECONDS)  # blocks: the loop must not run before the read ended
        await asyncio.sleep(0)  # the result of the read is set, and its callback not called
        assert [stored.event.message for stored in await spool.next_batch(1)] == [FIRST]
        assert [stored.event.message for stored in await waiting] == [FIRST]
        await appended
        await spool.close()
