"""The same handler, a transaction an event, under FastStream."""

import os
from typing import Annotated, Any

import uvloop
from faststream import Context, FastStream
from faststream.kafka import KafkaBroker
from servers.row_by_row import TOPIC, handle
from sqlalchemy.ext.asyncio import create_async_engine

broker = KafkaBroker(os.environ["KAFKA_BOOTSTRAP_SERVERS"], logger=None)
engine = create_async_engine(os.environ["DATABASE_URL"])


@broker.subscriber(TOPIC, group_id=f"faststream-{os.getpid()}", auto_offset_reset="earliest")
async def receive(webhook: dict[str, Any], event_id: Annotated[str, Context("message.headers.ce_id")]) -> None:
    await handle(engine, webhook, event_id)


if __name__ == "__main__":
    uvloop.run(FastStream(broker, logger=None).run())
