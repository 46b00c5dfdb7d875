"""Which log stands behind the port: decided here, once, from the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from safevideo_common.broker.embedded import open_embedded_broker
from safevideo_common.broker.kafka import KafkaBroker
from safevideo_common.broker.port import Broker
from safevideo_common.errors import StartupError


@asynccontextmanager
async def open_broker(bootstrap_servers: str, folder: Path | None) -> AsyncIterator[Broker]:
    """Kafka at `bootstrap_servers` (host:port, comma-separated), or where that is empty the embedded log in `folder`.

    Raises `StartupError` when neither is given, or when another process has the folder open. Kafka may be away.
    """
    if bootstrap_servers.strip():
        yield KafkaBroker(bootstrap_servers)
    elif folder is not None:
        async with open_embedded_broker(folder) as log:
            yield log
    else:
        raise StartupError("KAFKA_BOOTSTRAP_SERVERS is empty: name a broker, or type `make run` for a log without one.")
