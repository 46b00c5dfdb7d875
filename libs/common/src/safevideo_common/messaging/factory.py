"""Which log stands behind the port: decided here, once, from the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from safevideo_common.errors import StartupError
from safevideo_common.messaging.embedded import embedded_log
from safevideo_common.messaging.kafka import KafkaLog
from safevideo_common.messaging.port import EventLog


@asynccontextmanager
async def open_log(bootstrap_servers: str, folder: Path | None) -> AsyncIterator[EventLog]:
    """Kafka at `bootstrap_servers` (host:port, comma-separated), or where that is empty the embedded log in `folder`.

    Raises `StartupError` when neither is given, or when another process has the folder open. Kafka may be away.
    """
    if bootstrap_servers.strip():
        yield KafkaLog(bootstrap_servers)
    elif folder is not None:
        async with embedded_log(folder) as log:
            yield log
    else:
        raise StartupError("KAFKA_BOOTSTRAP_SERVERS is empty: name a broker, or type `make run` for a log without one.")
