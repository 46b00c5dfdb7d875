"""The job `person_erasure`: applies one order to erase a person, or all orders.

Each step is a transaction that may run again, so a worker that dies anywhere is followed by one that finishes. The job
runs periodically for all orders: a restored backup, or a consumer that was just writing, brings nothing back for long.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from kyc_worker.documents.deleter import DocumentDeleter
from kyc_worker.privacy import erasure_tables
from kyc_worker.privacy.retention_job import RetentionMetrics
from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry
from safevideo_common.cache.performers import CacheUnavailable, PerformerCache
from safevideo_common.clock import Clock
from safevideo_common.database import erasures, performers
from safevideo_common.database.engine import Database
from safevideo_common.database.erasures import ErasureOrder, IdentifierKind
from safevideo_common.domain.kyc import KycRules
from safevideo_common.encryption import Cipher
from safevideo_common.jobs.handler import JobContext, PermanentJobError, RetryableJobError
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.privacy.erasure import ERASURE_JOB
from safevideo_common.privacy.holds import active_holds
from safevideo_common.privacy.person import Person

APPLIED_ACTION: Final = "users.erased"
ORDERS_PER_PASS: Final = 50
Scan = Callable[[AsyncConnection, int], Awaitable[int | None]]


class SessionEnder(Protocol):
    """Ends the sessions of people."""

    async def end_user(self, user_id: int) -> int:
        """End all sessions of a user, and return their number. Raises `ServiceUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class ErasureParts:
    """The stores that the job works on. Without `quarantine_cipher` quarantined webhooks stay until their end."""

    database: Database
    deleter: DocumentDeleter
    quarantine_cipher: Cipher | None
    cache: PerformerCache
    sessions: SessionEnder


class ErasureJob:
    """The handler. Its cursor is the last order that is done."""

    def __init__(
        self,
        parts: ErasureParts,
        rules: KycRules,
        metrics: RetentionMetrics,
        clock: Clock,
        logger: FilteringBoundLogger,
    ) -> None:
        self._parts = parts
        self._rules = rules
        self._metrics = metrics
        self._clock = clock
        self._logger = logger

    async def run(self, job: JobContext) -> Mapping[str, object]:
        """Return the numbers of orders that were applied, and of those that a legal hold stops.

        Raises `FilesUnavailable`, `RetryableJobError` and errors of the database and of Redis: another attempt follows.
        """
        after, applied, stopped = (_number(job, name) for name in ("after", "applied", "held"))
        while orders := await self._orders(job, after):
            ready = [each for each in orders if not await self._is_stopped(each)]
            if ready:
                await self._apply(job, ready)
            after, applied, stopped = orders[-1].id, applied + len(ready), stopped + len(orders) - len(ready)
            async with job.step({"after": after, "applied": applied, "held": stopped}):
                pass
        return {"applied": applied, "held": stopped}

    async def _orders(self, job: JobContext, after: int) -> Sequence[ErasureOrder]:
        chosen = job.parameters.get("orderId")
        async with self._parts.database.read_connection() as reading:
            if chosen is None:
                return await erasures.orders_after(reading, after, ORDERS_PER_PASS)
            if not isinstance(chosen, int):
                raise PermanentJobError("PARAMETERS_INVALID", "orderId must be a number")
            order = await erasures.get_order(reading, chosen)
        if order is None:
            raise PermanentJobError("ERASURE_ORDER_NOT_FOUND", "there is no such order")
        return [order] if order.id > after else []

    async def _is_stopped(self, order: ErasureOrder) -> bool:
        """Return whether a hold came between the order and its application. An applied order stays applied."""
        if order.applied_at is not None:
            return False
        person, _ = await self._person([order])
        async with self._parts.database.read_connection() as reading:
            found = await active_holds(reading, person)
        if found:
            self._logger.warning(
                "Person not erased", code="LEGAL_HOLD", order=order.id, holds=[each.id for each in found]
            )
        return bool(found)

    async def _person(self, orders: Sequence[ErasureOrder]) -> tuple[Person, bool]:
        """Return the persons of some orders as one, and whether one of the orders is new."""
        async with self._parts.database.read_connection() as reading:
            found = await erasures.identifiers_of(reading, [each.id for each in orders])
            names, digests = found[IdentifierKind.PERFORMER], found[IdentifierKind.IDENTITY]
            user_ids = {int(each) for each in found[IdentifierKind.USER]}
            user_ids |= await erasure_tables.accounts_of(reading, names, digests)
        return Person(tuple(sorted(user_ids)), tuple(names)), any(each.applied_at is None for each in orders)

    async def _apply(self, job: JobContext, orders: Sequence[ErasureOrder]) -> None:
        person, is_new = await self._person(orders)
        async with job.step() as tx:
            accounts = await erasure_tables.erase_accounts(tx, person, self._clock())
        async with job.step() as tx:
            rows = await erasure_tables.erase_performers(tx, person, self._clock())
        requests = await self._erase_requests(job, person)
        async with job.step() as tx:
            events = await erasure_tables.erase_events(tx, person, self._clock())
        if person.performer_ids:
            await self._scan_all(job, person)
        await self._leave_redis(person, accounts, rows, is_new=is_new)
        counts = {"accounts": len(accounts), "performers": len(rows), "requests": requests, "events": events}
        async with job.step() as tx:
            await erasures.mark_applied(tx, [each.id for each in orders], self._clock())
            for order in (each for each in orders if each.applied_at is None):
                await audit_store.record(tx, self._entry(job, order))
        if is_new or any(counts.values()):
            self._logger.info("Erasures applied", orders=[each.id for each in orders], **counts)

    async def _erase_requests(self, job: JobContext, person: Person) -> int:
        async with self._parts.database.read_connection() as reading:
            request_ids = await erasure_tables.requests_to_erase(reading, person)
        for request_id in request_ids:
            async with job.step() as tx:
                await erasure_tables.erase_request(tx, request_id, self._clock(), self._rules)
            self._metrics.deleted.labels("erasure").inc()
        await self._parts.deleter.delete_of(request_ids)
        return len(request_ids)

    async def _scan_all(self, job: JobContext, person: Person) -> None:
        """Search for the person where no index leads to."""
        names, cipher = erasure_tables.names_in_bytes(person.performer_ids), self._parts.quarantine_cipher
        scans: list[Scan] = [
            lambda tx, after: erasure_tables.erase_events_without_performer(tx, names, after, self._clock()),
            lambda tx, after: erasure_tables.erase_kept_responses(tx, names, after),
            lambda tx, after: erasure_tables.erase_job_results(tx, person.performer_ids, after),
        ]
        if cipher is not None:
            scans.append(lambda tx, after: erasure_tables.erase_rejected_webhooks(tx, names, cipher, after))
        for scan in scans:
            after: int | None = 0
            while after is not None:
                async with job.step() as tx:
                    after = await scan(tx, after)

    async def _leave_redis(self, person: Person, accounts: Sequence[int], rows: Sequence[int], *, is_new: bool) -> None:
        """End the sessions and invalidate the cache; of a new order also where an earlier attempt has got to."""
        for user_id in person.user_ids if is_new else accounts:
            await self._parts.sessions.end_user(user_id)
        if is_new:
            async with self._parts.database.read_connection() as reading:
                stored = await performers.load(reading, person.performer_ids)
            rows = [row.id for row in stored.values()]
        try:
            await self._parts.cache.invalidate(rows)
        except CacheUnavailable as error:
            raise RetryableJobError("CACHE_UNAVAILABLE", "the cached performers cannot be removed now") from error

    def _entry(self, job: JobContext, order: ErasureOrder) -> AuditEntry:
        details: dict[str, object] = {"orderId": order.id, "reason": order.reason}
        target = f"erasure:{order.id}"
        return AuditEntry(self._clock(), ERASURE_JOB, "system", APPLIED_ACTION, None, job.request_id, details, target)


def _number(job: JobContext, name: str) -> int:
    value = (job.cursor or {}).get(name)
    return value if isinstance(value, int) else 0
