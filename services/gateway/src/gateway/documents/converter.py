"""Conversion of uploaded documents, each in a process of its own that was started beforehand.

A process serves one document. It has no environment, no descriptor but its pipes, and hard limits
(`converter_process.py`). So a document that breaks a decoder breaks its own upload and nothing else, and no document
sees another. A spare process waits for the next document, because its start takes longer than most conversions.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self

from gateway.documents.kinds import CPU_SECONDS, DOCUMENT, HEAD_BYTES, KIND_BYTES, READY, DocumentKind, kind_of
from safevideo_common.errors import ServiceUnavailable, UnsupportedDocument

MAX_WAITING: Final = 32
"""Documents that wait for a process. Each has its bytes in memory."""
PIECE_BYTES: Final = 1 << 18
SECONDS: Final = CPU_SECONDS + 10.0
RETRY_AFTER_SECONDS: Final = 5
COMMAND: Final = (sys.executable, "-I", "-m", "gateway.documents.converter_process")


@dataclass(frozen=True, slots=True)
class ConvertedDocument:
    """A document as it is stored."""

    kind: DocumentKind
    content: bytes


@dataclass(frozen=True, slots=True)
class ConverterProcess:
    """A running process and the ends of its pipes."""

    popen: "subprocess.Popen[bytes]"
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    output: asyncio.ReadTransport
    """The transport that `stdout` reads from."""

    @classmethod
    async def start(cls) -> Self:
        """Start a process. Raises `OSError`.

        The event loop of uvloop would fork, and copy the page tables of this service meanwhile, which takes up to 10 ms
        of the loop. `subprocess` shares them until the program runs. The thread lives as long as this service: the
        kernel kills a process of ours when the thread ends that has started it.
        """
        starting = asyncio.ensure_future(asyncio.to_thread(_popen))
        try:
            popen = await asyncio.shield(starting)
            return await cls._connected(popen)
        except asyncio.CancelledError:
            starting.add_done_callback(_kill_started)
            await asyncio.wait([starting])  # some milliseconds: nothing starts after a cancelled conversion has ended
            raise

    @classmethod
    async def _connected(cls, popen: "subprocess.Popen[bytes]") -> Self:
        assert popen.stdin is not None
        assert popen.stdout is not None
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        output, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), popen.stdout)
        # The protocol of the writer waits while the pipe is full; its reader is not used.
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        transport, _ = await loop.connect_write_pipe(lambda: protocol, popen.stdin)
        return cls(popen, asyncio.StreamWriter(transport, protocol, None, loop), reader, output)

    @property
    def is_running(self) -> bool:
        """Return True unless the process has ended."""
        return self.popen.poll() is None

    async def end(self) -> None:
        """Kill the process and return when it is gone."""
        self.popen.kill()  # nothing, if it has ended
        self.stdin.close()
        self.output.close()
        await asyncio.to_thread(self.popen.wait)


def _popen() -> "subprocess.Popen[bytes]":
    pipe = subprocess.PIPE
    return subprocess.Popen(COMMAND, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env={}, bufsize=0)


def _kill_started(starting: "asyncio.Future[subprocess.Popen[bytes]]") -> None:
    """Kill a process that nobody waits for any more."""
    if starting.cancelled() or starting.exception() is not None:
        return
    with starting.result() as popen:  # waits for its end, which comes at once
        popen.kill()


class DocumentConverter:
    """Converts documents, `concurrency` at once.

    `convert` raises `UnsupportedDocument` for what cannot be read, and `ServiceUnavailable` when too many wait or when
    this machine cannot start a process.
    """

    def __init__(self, concurrency: int) -> None:
        self._places = asyncio.Semaphore(concurrency)
        self._waiting = 0
        self._spare: asyncio.Task[ConverterProcess] | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, concurrency: int = 2) -> AsyncIterator[Self]:
        """Open a converter. It has a process in reserve once it was warmed."""
        converter = cls(concurrency)
        try:
            yield converter
        finally:
            if converter._spare is not None:
                with suppress(OSError):
                    await (await converter._spare).end()

    def warm(self) -> None:
        """Start the process of the next document if there is none: a document is expected."""
        if self._spare is None:
            self._spare = asyncio.create_task(_start(), name="document-converter-spare")

    async def convert(self, document: bytes) -> ConvertedDocument:
        """Return the document upright, small and without metadata. A repetition gives the same bytes."""
        kind = kind_of(document[:HEAD_BYTES])
        if kind is None:
            raise UnsupportedDocument("The file is none of JPEG, PNG, WebP, HEIC and PDF.")
        if self._waiting >= MAX_WAITING:
            raise ServiceUnavailable("Too many documents are being converted.", retry_after=RETRY_AFTER_SECONDS)
        self._waiting += 1
        try:
            async with self._places:
                return ConvertedDocument(kind, await self._convert(kind, document))
        finally:
            self._waiting -= 1

    async def _convert(self, kind: DocumentKind, document: bytes) -> bytes:
        process = await self._take()
        try:
            async with asyncio.timeout(SECONDS):
                answer = await _ask(process, kind, document)
        except TimeoutError:
            raise UnsupportedDocument("The file takes too long to read.") from None
        finally:
            await process.end()
            self.warm()
        if answer[:1] == DOCUMENT:
            return answer[1:]
        # Without an answer a limit or a fault of the decoder has ended the process.
        raise UnsupportedDocument(answer[1:].decode(errors="replace") or "The file cannot be read.")

    async def _take(self) -> ConverterProcess:
        """Return a process that is ready.

        The next one starts now if a document waits for it. Else it starts when this one ends, and slows it down less.
        """
        spare, self._spare = self._spare, None
        if self._waiting > 1:
            self.warm()
        try:
            if spare is not None:
                with suppress(OSError):  # it could not start then; now may be another time
                    process = await spare
                    if process.is_running:  # nobody has killed it since
                        return process
            return await _start()
        except OSError as error:
            raise ServiceUnavailable(
                "No process for the document could be started.", retry_after=RETRY_AFTER_SECONDS
            ) from error


async def _start() -> ConverterProcess:
    """Start a process and return it when it has given up its rights. Raises `OSError`."""
    process = await ConverterProcess.start()
    try:
        async with asyncio.timeout(SECONDS):
            if await process.stdout.read(1) != READY:
                raise OSError("The converter of documents ended at its start.")
    except BaseException:
        await process.end()
        raise
    return process


async def _ask(process: ConverterProcess, kind: DocumentKind, document: bytes) -> bytes:
    """Return the answer, or nothing if the process has ended without one. It reads everything before it answers."""
    with suppress(ConnectionError):
        process.stdin.write(kind.value.ljust(KIND_BYTES).encode())
        for begin in range(0, len(document), PIECE_BYTES):  # in pieces, since one write of all would block the loop
            process.stdin.write(document[begin : begin + PIECE_BYTES])
            await process.stdin.drain()
    process.stdin.close()
    return await process.stdout.read()
