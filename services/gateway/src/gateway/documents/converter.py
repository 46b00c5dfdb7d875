"""Conversion of uploaded documents, each in a process of its own that was started beforehand.

A process serves one document. It has no environment, no descriptor but its pipes, and hard limits
(`converter_process.py`). So a document that breaks a decoder breaks its own upload and nothing else, and no document
sees another. A spare process waits for the next document, because its start takes longer than most conversions.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from gateway.documents.kinds import CPU_SECONDS, DOCUMENT, HEAD_BYTES, KIND_BYTES, READY, DocumentKind, kind_of
from safevideo_common.domain.kyc_documents import MAX_DOCUMENT_BYTES
from safevideo_common.errors import ServiceUnavailable, UnsupportedDocument

MAX_CONVERSIONS: Final = 2
"""Documents at once. The memory of the container is for as many, and for one process that waits."""
MAX_WAITING: Final = 32
"""Documents that wait for a process. Each has its bytes in memory."""
PIPE_BYTES: Final = 1 << 20
"""What a pipe holds: with the default, 64 KiB, both sides wait for each other at each such piece of a document."""
SECONDS: Final = CPU_SECONDS + 20.0
"""Of a start or a conversion, on a busy machine."""
MAX_ANSWER_BYTES: Final = 1 + MAX_DOCUMENT_BYTES
READ_BYTES: Final = 1 << 20
RETRY_AFTER_SECONDS: Final = 5
COMMAND: Final = (sys.executable, "-I", "-m", "gateway.documents.converter_process")


@dataclass(frozen=True, slots=True)
class ConvertedDocument:
    """A document as it is stored."""

    kind: DocumentKind
    content: bytes


class ConverterProcess:
    """A process, and a thread of this service that starts it and talks with it. Steps of the thread are in order.

    The event loop of uvloop would fork, and copy the page tables of this service meanwhile, which takes up to 10 ms.
    `subprocess` shares them until the program runs. uvloop also closes a pipe that was opened elsewhere twice, by when
    the number may be another file's.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        # The kernel kills the process when the thread ends that has started it.
        self._thread = ThreadPoolExecutor(1, "document-converter")
        self._popen: subprocess.Popen[bytes] | None = None

    @classmethod
    async def start(cls, command: Sequence[str] = COMMAND) -> Self:
        """Return a process that has given up its rights. Raises `OSError`."""
        process = cls(command)
        try:
            async with asyncio.timeout(SECONDS):
                await process._run(process._start)
                if await process._run(process._read, 1) != READY:
                    raise OSError("The converter of documents ended at its start.")
        except BaseException:
            await process.end()
            raise
        return process

    async def ask(self, kind: DocumentKind, document: bytes) -> bytes:
        """Return the answer, or nothing if the process has ended without one or has not kept to the limit."""
        answer: bytes = await self._run(self._ask, kind.value.ljust(KIND_BYTES).encode(), document)
        return answer

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._started.pid

    @property
    def is_running(self) -> bool:
        """Return True unless the process has ended."""
        return self._started.poll() is None

    async def end(self) -> None:
        """Kill the process, and return when it is gone. A step under way ends with it."""
        if self._popen is not None:
            self._popen.kill()
        discarded = asyncio.wrap_future(self._thread.submit(self._discard))
        self._thread.shutdown(wait=False)
        await asyncio.shield(discarded)

    async def _run(self, step: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, step, *arguments)

    @property
    def _started(self) -> "subprocess.Popen[bytes]":
        assert self._popen is not None
        return self._popen

    def _start(self) -> None:
        pipe = subprocess.PIPE
        self._popen = subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env={}, bufsize=0, pipesize=PIPE_BYTES
        )

    def _read(self, count: int) -> bytes:
        assert self._started.stdout is not None
        return self._started.stdout.read(count)

    def _ask(self, *parts: bytes) -> bytes:
        """Write everything, then read everything: so does the process, in the other order."""
        assert self._started.stdin is not None
        with suppress(BrokenPipeError):
            for part in parts:
                rest = memoryview(part)
                while rest:
                    rest = rest[self._started.stdin.write(rest) :]
        self._started.stdin.close()
        answer = bytearray()
        while len(answer) <= MAX_ANSWER_BYTES and (data := self._read(READ_BYTES)):
            answer += data
        return bytes(answer) if len(answer) <= MAX_ANSWER_BYTES else b""

    def _discard(self) -> None:
        if self._popen is not None:
            with self._popen as process:  # closes its pipes, and waits for its end
                process.kill()


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
    async def open(cls, concurrency: int = MAX_CONVERSIONS) -> AsyncIterator[Self]:
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
            self._spare = asyncio.create_task(ConverterProcess.start(), name="document-converter-spare")

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
                answer = await process.ask(kind, document)
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
                    if process.is_running:
                        return process
                    await process.end()  # somebody has killed it since
            return await ConverterProcess.start()
        except OSError as error:
            raise ServiceUnavailable(
                "No process for the document could be started.", retry_after=RETRY_AFTER_SECONDS
            ) from error
