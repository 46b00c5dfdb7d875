"""The choice of the broker adapter from the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from safevideo_common.broker.embedded import open_embedded_broker
from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.kafka.security import PLAINTEXT, KafkaSecurity
from safevideo_common.broker.port import Broker
from safevideo_common.errors import StartupError


@asynccontextmanager
async def open_broker(
    bootstrap_servers: str, folder: Path | None, security: KafkaSecurity = PLAINTEXT
) -> AsyncIterator[Broker]:
    """Open Kafka at `bootstrap_servers` (host:port, comma-separated), or the embedded broker in `folder` if empty.

    Succeeds while Kafka is unavailable. Raises `StartupError` if there is neither, or if another process has opened
    the folder.
    """
    if bootstrap_servers.strip():
        yield KafkaBroker(bootstrap_servers, security)
    elif folder is not None:
        async with open_embedded_broker(folder) as broker:
            yield broker
    else:
        raise StartupError("KAFKA_BOOTSTRAP_SERVERS is empty. Set it, or type `make run` for the embedded broker.")
