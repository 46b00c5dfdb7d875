"""How a client of Kafka is kept connected, whatever becomes of the brokers."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Generic, NoReturn, Protocol, TypeVar

from aiokafka.errors import ConsumerStoppedError, IllegalOperation, KafkaError

from safevideo_common.cancellation import ended
from safevideo_common.errors import LogUnavailable
from safevideo_common.messaging.backlog import RETRY_AFTER_SECONDS

FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 5.0
GRACE_SECONDS: Final = 2.0
"""What a client gets to connect before its user goes on without it, and to say goodbye before it is cut off."""

_log = logging.getLogger(__name__)


class Session(Protocol):
    """A client that is connected, with what it holds as long as it lasts."""

    @property
    def broken(self) -> "asyncio.Future[NoReturn]":
        """Gets an exception once the client is of no more use and a new one has to be made."""
        ...


S = TypeVar("S", bound=Session)


class Connection(Generic[S]):
    """The present session, if there is one."""

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[S]]) -> None:
        self._connect = connect
        self._session: S | None = None
        self._up = asyncio.Event()

    @property
    def session(self) -> S:
        """The present session. Raises `LogUnavailable` while there is none."""
        if self._session is None:
            raise LogUnavailable("Kafka is away.", retry_after=RETRY_AFTER_SECONDS)
        return self._session

    async def session_within(self, seconds: float) -> S:
        """The session, waited for up to `seconds`. Raises `LogUnavailable` when there is none by then."""
        try:
            async with asyncio.timeout(seconds):
                await self._up.wait()
        except TimeoutError:
            pass
        return self.session

    async def keep(self) -> None:
        """Connect, and connect again when that fails or the session breaks, for ever. The delay grows, with jitter."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._live()
            # Whatever ends a session, the next one is the cure: this is the one owner of that decision.
            except Exception as error:  # noqa: BLE001
                _log.warning("Kafka session ended, connecting again: %s", error)
            failures = 0 if loop.time() - began > LONGEST_DELAY_SECONDS else failures + 1
            await asyncio.sleep(_delay(failures))

    async def _live(self) -> None:
        async with self._connect() as session:
            self._session = session
            self._up.set()
            try:
                await session.broken
            finally:
                self._up.clear()
                self._session = None


def _delay(failures: int) -> float:
    ceiling = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(failures, 32))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311 - jitter guards nothing


@asynccontextmanager
async def connected(name: str, connect: Callable[[], AbstractAsyncContextManager[S]]) -> AsyncIterator[Connection[S]]:
    """Keep a session open by the background task `name`. Entering waits a moment for it and succeeds without it."""
    connection = Connection(connect)
    keeper = asyncio.create_task(connection.keep(), name=name)
    try:
        try:
            await connection.session_within(GRACE_SECONDS)
        except LogUnavailable:
            _log.warning("Kafka is away; %s starts without it", name)
        yield connection
    finally:
        await ended(keeper)


@asynccontextmanager
async def answering(what: str, seconds: float) -> AsyncIterator[None]:
    """Bound a request by `seconds`, and turn every way in which Kafka fails to answer into `LogUnavailable`."""
    try:
        async with asyncio.timeout(seconds):
            yield
    # Not all errors of aiokafka are a KafkaError: these two come from a client that was stopped under its user.
    except (KafkaError, ConsumerStoppedError, IllegalOperation, TimeoutError, OSError) as error:
        raise LogUnavailable(f"Kafka did not answer: {what}.", retry_after=RETRY_AFTER_SECONDS) from error
