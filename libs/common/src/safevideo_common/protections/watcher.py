"""The decisions of operators in a process: read from the database at the start, at each signal, and now and then."""

from collections.abc import Callable
from datetime import datetime
from time import monotonic
from typing import Final

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry
from safevideo_common.clock import Clock
from safevideo_common.database import integrations
from safevideo_common.database.engine import Database
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.protections import store
from safevideo_common.protections.integration import SharegramIntegration
from safevideo_common.protections.store import Action, Override
from safevideo_common.resilience.breaker.breaker import CircuitBreaker
from safevideo_common.tasks import wait_event

RELOAD_SECONDS: Final = 10.0
"""The database is read so often without a signal: the operator's process may not have reached Redis."""
CHECK_SECONDS: Final = 1.0
"""Without Redis, which carries the signals, the database is read so often."""
FALLBACK_ENDED: Final = "fallback.ended"


class FallbackMode:
    """Fallback mode as this process knows it. Reading it costs no I/O, and it ends without one."""

    def __init__(self, provider: str, *, clock: Callable[[], float] = monotonic) -> None:
        self.provider: Final = provider
        self.changed: Final[list[Callable[[], None]]] = []
        """Called after fallback mode was switched, extended or ended."""
        self._clock = clock
        self._until: datetime | None = None
        self._deadline = 0.0
        self._started = 0.0

    def until(self) -> datetime | None:
        """Return the time at which fallback mode ends; None while it is off."""
        return self._until if self._clock() < self._deadline else None

    @property
    def has_ended(self) -> bool:
        """Return whether it was on and its time is over, and nobody has noticed yet."""
        return self._until is not None and self._clock() >= self._deadline

    @property
    def seconds_on(self) -> float:
        """Return for how long it has been on; 0 while it is off."""
        return self._clock() - self._started if self.until() else 0.0

    def apply(self, override: Override | None) -> None:
        """Take over the decision of an operator; None is as if there had never been one."""
        before = self._until
        if override is not None and override.action is Action.ON and override.seconds_left > 0:
            now = self._clock()
            self._until = override.ends_at
            self._deadline, self._started = now + override.seconds_left, now - override.seconds_since
        else:
            self._until, self._deadline = None, 0.0
        if self._until != before:
            for callback in self.changed:
                callback()


class OverrideWatcher:
    """Keeps one breaker, one fallback mode and the integration as the database says.

    What it cannot read it leaves as it is.
    """

    def __init__(
        self,
        database: Database,
        breaker: CircuitBreaker,
        fallback: FallbackMode,
        integration: SharegramIntegration,
        clock: Clock,
        logger: FilteringBoundLogger,
        *,
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._breaker = breaker
        self._fallback = fallback
        self._integration = integration
        self._clock = clock
        self._logger = logger
        self._seconds = seconds
        self._due = 0.0
        self._changed_at: datetime | None = None
        self._is_first = True

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            is_signalled = await wait_event(self._breaker.signalled, CHECK_SECONDS)
            self._breaker.signalled.clear()
            if self._fallback.has_ended:
                await self._end_fallback()
            if is_signalled or not self._breaker.has_shared_state or self._seconds() >= self._due:
                try:
                    await self.load()
                except ServiceUnavailable as error:
                    self._logger.warning("Overrides not read, the last ones stay", code=error.code)

    async def load(self) -> None:
        """Read the decisions and apply them. Raises `ServiceUnavailable`."""
        self._due = self._seconds() + RELOAD_SECONDS
        async with self._database.read_connection() as connection:
            rows = await store.find_all(connection)
            configured = await integrations.find(connection, self._fallback.provider)
        self._apply_breaker(rows.get(store.breaker_key(self._breaker.name)))
        self._fallback.apply(rows.get(store.fallback_key(self._fallback.provider)))
        self._integration.apply(configured)

    def _apply_breaker(self, row: Override | None) -> None:
        is_new = row is not None and row.changed_at != self._changed_at and not self._is_first
        self._is_first = False
        self._changed_at = row.changed_at if row is not None else None
        self._breaker.force_open(row.seconds_left if row is not None and row.action is Action.OPEN else 0.0)
        if row is not None and is_new and row.action in {Action.CLOSE, Action.RESET}:
            self._breaker.close_locally()

    async def _end_fallback(self) -> None:
        self._fallback.apply(None)
        provider = self._fallback.provider
        entry = AuditEntry(self._clock(), "system", "system", FALLBACK_ENDED, None, None, {"provider": provider})
        try:
            async with self._database.transaction() as tx:
                if await store.end(tx, store.fallback_key(provider)):
                    await audit_store.record(tx, entry)
        except ServiceUnavailable:
            return  # another process records it, or this one after its next start
