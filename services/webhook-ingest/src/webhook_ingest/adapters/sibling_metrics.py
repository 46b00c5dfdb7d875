"""`/metrics` of several processes on one port: whoever is asked answers for all of them.

Each worker tells its own figures on a Unix socket in a folder that they share. The one that is scraped asks the others
and puts `worker="<number>"` on each sample. So counting costs nothing more than in one process, a worker that was
started again is an ordinary counter reset of its own series, and gauges (a spool's depth) keep their meaning.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest

from safevideo_common.observability import metric_catalog
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.observability.metric import gauge

ASK_SECONDS: Final = 1.0
"""A worker that does not answer in this time is left out: `safevideo_workers_answering` tells."""

LARGEST_ANSWER: Final = 8 << 20

Exposition = Callable[[], Awaitable[bytes]]


class SiblingMetrics:
    """Of worker `number` out of `count`. `own` gives its own figures in Prometheus' text format."""

    def __init__(self, number: int, count: int, folder: Path, own: Exposition, log: FilteringBoundLogger) -> None:
        self._number = number
        self._count = count
        self._folder = folder
        self._own = own
        self._log = log

    @asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Tell the siblings, until the end of the block."""
        path = self._path(self._number)
        path.unlink(missing_ok=True)  # of a worker that was killed
        async with await asyncio.start_unix_server(self._tell, path):
            yield

    async def exposition(self) -> bytes:
        """Everybody's figures. Those of a worker that is just being started again are missing."""
        others = [number for number in range(1, self._count + 1) if number != self._number]
        answers = await asyncio.gather(self._own(), *(self._asked(number) for number in others))
        found = [(number, text) for number, text in zip([self._number, *others], answers, strict=True) if text]
        return merged(sorted(found)) + _answering(len(found))

    async def _tell(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                writer.write(await self._own())
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            writer.transport.abort()

    async def _asked(self, number: int) -> bytes:
        writer = None
        try:
            async with asyncio.timeout(ASK_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._path(number), limit=LARGEST_ANSWER)
                return await reader.read(-1)
        except (OSError, TimeoutError) as error:
            self._log.warning("A worker gave no figures", worker=number, error=type(error).__name__)
            return b""
        finally:
            if writer is not None:
                writer.transport.abort()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.sock"


def merged(texts: list[tuple[int, bytes]]) -> bytes:
    """Several processes' figures as one text: the lines of each metric stand together, each sample with its worker."""
    families: dict[bytes, list[bytes]] = {}
    for number, text in texts:
        family: list[bytes] = []
        for line in text.splitlines():
            if line.startswith(b"# HELP "):
                family = families.setdefault(line.split(b" ", 3)[2], [])
                known = bool(family)
            if not line.startswith(b"#"):
                family.append(_labelled(line, number))
            elif not known:
                family.append(line)
    return b"".join(b"%s\n" % line for lines in families.values() for line in lines)


def _answering(workers: int) -> bytes:
    registry = CollectorRegistry()
    gauge(metric_catalog.WORKERS_ANSWERING, registry).set(workers)
    return generate_latest(registry)


def _labelled(line: bytes, number: int) -> bytes:
    head, brace, rest = line.partition(b"{")
    if brace:
        return b'%s{worker="%d",%s' % (head, number, rest)
    name, _, value = line.partition(b" ")
    return b'%s{worker="%d"} %s' % (name, number, value)
