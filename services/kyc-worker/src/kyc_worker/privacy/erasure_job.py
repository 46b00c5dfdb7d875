"""The job `person_erasure`: applies one order to erase a person, or all orders.

An order starts in one transaction: it locks the person, looks for holds, and empties the accounts. A hold that was
accepted before it stops the order, and one that comes later is refused. From then on each step is a transaction that
may run again, so a worker that dies anywhere is followed by one that finishes. The job runs periodically for all
orders: a restored backup, or a consumer that was just writing, brings nothing back for long.
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
from safevideo_common.privacy.holds import active_holds
from safevideo_common.privacy.jobs import ERASURE_JOB
from safevideo_common.users.person import LockedPerson, Person, lock_known
from safevideo_common.users.store import User

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


@dataclass(frozen=True, slots=True)
class _Begun:
    """An order that has started: what it names, and the accounts that were not empty."""

    order: ErasureOrder
    person: Person
    accounts: tuple[int, ...]


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
            begun = [each for order in orders if (each := await self._start(job, order)) is not None]
            if begun:
                await self._apply(job, begun)
            after, applied, stopped = orders[-1].id, applied + len(begun), stopped + len(orders) - len(begun)
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

    async def _start(self, job: JobContext, order: ErasureOrder) -> _Begun | None:
        """Start an order, and empty the accounts. Return None while a hold keeps the person.

        An order that has started goes on, whatever comes.
        """
        async with job.step() as tx:
            locked, person = await self._locked(tx, order)
            if order.started_at is None and (holds := await active_holds(tx, locked.person)):
                self._logger.warning(
                    "Person not erased", code="LEGAL_HOLD", order=order.id, holds=[each.id for each in holds]
                )
                return None
            await erasures.mark_started(locked, order.id, self._clock())
            accounts = await erasure_tables.erase_accounts(tx, locked, person, self._clock())
        return _Begun(order, person, tuple(accounts))

    async def _locked(self, tx: AsyncConnection, order: ErasureOrder) -> tuple[LockedPerson, Person]:
        """Lock the persons of an order. Return them, and what the order names of them.

        An order names each account and performer of its person. In a restored backup an account of somebody else may
        be merged with one of them: it is locked too, and not erased.
        """
        found = await erasures.identifiers_of(tx, [order.id])
        names, digests = found[IdentifierKind.PERFORMER], found[IdentifierKind.IDENTITY]
        named = {int(each) for each in found[IdentifierKind.USER]}
        named |= await erasure_tables.accounts_of(tx, names, digests)
        locked = await lock_known(tx, named, names)
        named &= set(locked.accounts)
        named |= {each for user_id in named for each in locked.tree(user_id) if _has_no_name(locked.accounts[each])}
        return locked, Person(tuple(sorted(named)), tuple(names))

    async def _apply(self, job: JobContext, begun: Sequence[_Begun]) -> None:
        person = _all(begun)
        rows: list[int] = []
        requests = events = 0
        for each in begun:
            async with job.step() as tx:
                await self._locked(tx, each.order)
                rows += await erasure_tables.erase_performers(tx, each.person, self._clock())
            requests += await self._erase_requests(job, each)
            async with job.step() as tx:
                await self._locked(tx, each.order)
                events += await erasure_tables.erase_events(tx, each.person, self._clock())
        if person.performer_ids:
            await self._scan_all(job, person)
        accounts = [user_id for each in begun for user_id in each.accounts]
        is_new = any(each.order.applied_at is None for each in begun)
        await self._leave_redis(person, accounts, rows, is_new=is_new)
        counts = {"accounts": len(accounts), "performers": len(rows), "requests": requests, "events": events}
        for order in (each.order for each in begun if each.order.applied_at is None):
            async with job.step() as tx:
                locked, _ = await self._locked(tx, order)
                if await erasures.mark_applied(locked, order.id, self._clock()):  # else another job was quicker
                    await audit_store.record(tx, self._entry(job, order))
        if is_new or any(counts.values()):
            self._logger.info("Erasures applied", orders=[each.order.id for each in begun], **counts)

    async def _erase_requests(self, job: JobContext, begun: _Begun) -> int:
        async with self._parts.database.read_connection() as reading:
            request_ids = await erasure_tables.requests_to_erase(reading, begun.person)
        for request_id in request_ids:
            async with job.step() as tx:
                await self._locked(tx, begun.order)
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


def _all(begun: Sequence[_Begun]) -> Person:
    user_ids = {user_id for each in begun for user_id in each.person.user_ids}
    performer_ids = {name for each in begun for name in each.person.performer_ids}
    return Person(tuple(sorted(user_ids)), tuple(sorted(performer_ids)))


def _has_no_name(account: User) -> bool:
    """Return whether only its merge says whose account it is: nobody has signed in with it."""
    return not account.has_identity and account.sharegram_id is None


def _number(job: JobContext, name: str) -> int:
    value = (job.cursor or {}).get(name)
    return value if isinstance(value, int) else 0
