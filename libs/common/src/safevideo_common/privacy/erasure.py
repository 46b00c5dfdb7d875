"""The order to erase a person: a preview, then the order itself, which a job of kyc-worker applies.

The order is one transaction with its audit entry and its job. From its commit on no event, sync or sign-in brings the
person back, and the job erases what is here. A repetition finds the order and enqueues the job again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import msgspec
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller, check_reason
from safevideo_common.clock import Clock
from safevideo_common.database import erasures
from safevideo_common.database.engine import Database
from safevideo_common.database.erasures import IdentifierKind, Identifiers
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.tables import event_inbox, kyc_documents, kyc_requests, performers, user_identities
from safevideo_common.errors import InvalidStatusTransition
from safevideo_common.events.envelope import ExternalId, Timestamp
from safevideo_common.events.topics import KYC_WORKER
from safevideo_common.jobs.model import NewJob, Priority
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.privacy.holds import require_no_hold
from safevideo_common.privacy.jobs import ERASURE_JOB, erasure_job
from safevideo_common.users import store as users
from safevideo_common.users.admins import ADMINS, require_another_admin
from safevideo_common.users.person import Person, Reference, find_person, lock, lock_known

EXPORT_CHUNK: Final = 100
ORDERED: Final = "users.erasure_ordered"

_r: Final = kyc_requests.c
_e: Final = event_inbox.c


class ExportedOrder(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An order as it is kept with a backup. `identities` are digests."""

    id: int
    reason: str
    created_at: Timestamp
    performer_ids: Sequence[ExternalId]
    identities: Sequence[ExternalId]


@dataclass(frozen=True, slots=True)
class ErasurePlan:
    """The extent of an erasure. The numbers are of rows that exist now, by what they hold."""

    person: Person
    rows: Mapping[str, int]
    order_id: int | None = None
    """Of the order; None of a preview."""
    job_id: int | None = None


class Erasures:
    """Previews and orders erasures. Every method raises the errors of the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def preview(self, reference: Reference) -> ErasurePlan:
        """Return what an order would cover.

        Raises `UserNotFound`, `PerformerNotFound`, and `LegalHold` while a hold keeps the person.
        """
        async with self._database.read_connection() as reading:
            person = await find_person(reading, reference)
            await require_no_hold(reading, person)
            return ErasurePlan(person, await _count(reading, person))

    async def order(self, reference: Reference, reason: str, caller: Caller) -> ErasurePlan:
        """Write the order and enqueue the job that applies it. A repetition enqueues the job of the same order again.

        Raises as `preview` does, and `ValidationFailed` for the reason.
        """
        check_reason(reason)

        async def attempt() -> ErasurePlan:
            async with self._database.transaction() as tx:
                locked = await lock(tx, reference, also=(ADMINS,))
                person = locked.person
                await require_no_hold(tx, person)
                await require_another_admin(locked, person.user_ids, self._clock)
                identifiers = person.identifiers(await users.digests_of(tx, person.user_ids))
                orders = await erasures.find_orders(tx, identifiers)
                order_id = orders[0].id if orders else None
                if order_id is None:
                    order_id = await erasures.create_order(locked, identifiers, reason, caller.name, self._clock())
                    details = {"orderId": order_id, "userIds": list(person.user_ids), "reason": reason}
                    await audit_store.record(tx, caller.entry(ORDERED, self._clock, details, f"erasure:{order_id}"))
                else:
                    await erasures.add_identifiers(locked, order_id, identifiers)
                job_id, _ = await job_admin.enqueue(tx, erasure_job(order_id, caller))
                return ErasurePlan(person, await _count(tx, person), order_id, job_id)

        return await retry_on_conflict(attempt)

    async def export(self) -> Sequence[ExportedOrder]:
        """Return all orders with the identifiers that a restored backup may have. An account's id is not among them.

        After a restore another person may have that id.
        """
        exported: list[ExportedOrder] = []
        async with self._database.read_connection() as reading:
            while orders := await erasures.orders_after(reading, exported[-1].id if exported else 0, EXPORT_CHUNK):
                for order in orders:
                    found = await erasures.identifiers_of(reading, [order.id])
                    names, digests = found[IdentifierKind.PERFORMER], found[IdentifierKind.IDENTITY]
                    exported.append(ExportedOrder(order.id, order.reason, order.created_at, names, digests))
        return exported

    async def import_orders(self, exported: Sequence[ExportedOrder], caller: Caller) -> int:
        """Write the orders that the database does not have, and enqueue the job that applies all. Return how many."""
        added = 0
        for each in exported:
            identifiers = {IdentifierKind.PERFORMER: each.performer_ids, IdentifierKind.IDENTITY: each.identities}
            added += await retry_on_conflict(partial(self._import, each, identifiers, caller))
        async with self._database.transaction() as tx:
            new = NewJob(
                ERASURE_JOB, {}, Priority.HIGH, runner=KYC_WORKER, unique_key=ERASURE_JOB, created_by=caller.name,
                request_id=caller.request_id,
            )  # fmt: skip
            await job_admin.enqueue(tx, new)
        return added

    async def _import(self, exported: ExportedOrder, identifiers: Identifiers, caller: Caller) -> bool:
        async with self._database.transaction() as tx:
            digests, performer_ids = exported.identities, exported.performer_ids
            mine = list(
                await tx.scalars(select(user_identities.c.user_id).where(user_identities.c.digest.in_(digests)))
            )
            locked = await lock_known(tx, mine, performer_ids)
            if orders := await erasures.find_orders(tx, identifiers):
                await erasures.add_identifiers(locked, orders[0].id, identifiers)
                return False
            order_id = await erasures.create_order(locked, identifiers, exported.reason, caller.name, self._clock())
            details = {"orderId": order_id, "importedFrom": exported.id, "reason": exported.reason}
            await audit_store.record(tx, caller.entry(ORDERED, self._clock, details, f"erasure:{order_id}"))
            return True


def encode_orders(orders: Sequence[ExportedOrder]) -> str:
    """Return the file that is kept with a backup, as JSON."""
    return msgspec.json.format(msgspec.json.encode({"orders": orders})).decode()


def decode_orders(content: bytes) -> Sequence[ExportedOrder]:
    """Return the orders of a file of `encode_orders`. Raises `ValueError`."""
    return msgspec.json.decode(content, type=dict[Literal["orders"], list[ExportedOrder]]).get("orders", [])


async def require_not_being_erased(tx: AsyncConnection, performer_id: str) -> None:
    """Raise `InvalidStatusTransition` once the erasure of this performer has started: nothing is written any more.

    The caller has locked the performer.
    """
    order = await erasures.find_started_order(tx, {IdentifierKind.PERFORMER: [performer_id]})
    if order is not None:
        raise InvalidStatusTransition("This person is being erased.", details={"orderId": order.id})


async def _count(connection: AsyncConnection, person: Person) -> dict[str, int]:
    requests = select(_r.id).where(_r.performer_id.in_(person.performer_ids))
    payloads = (_e.performer_id.in_(person.performer_ids), _e.payload.is_not(None))
    counts = {
        "performers": select(func.count()).where(performers.c.sharegram_id.in_(person.performer_ids)),
        "kycRequests": select(func.count()).select_from(requests.subquery()),
        "documents": select(func.count()).where(kyc_documents.c.request_id.in_(requests)),
        "waitingAndDeadEvents": select(func.count()).where(*payloads),
    }
    rows = {name: await connection.scalar(query) or 0 for name, query in counts.items()}
    return {"accounts": len(person.user_ids), **rows}
