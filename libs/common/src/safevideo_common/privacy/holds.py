"""Legal holds. While a person has an active one, no retention and no erasure deletes anything of them.

A hold names the person by every identifier that the person had when it was placed (`legal_hold_subjects`). So it
follows merges, and after an unmerge both persons keep it until somebody releases each of them.

A hold and an erasure cannot pass each other: both lock the person first. A hold that was accepted is kept, and one that
comes after the erasure has started is refused with the number of the order.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal, NamedTuple, TypedDict

import msgspec
from sqlalchemy import ColumnElement, Row, and_, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller, check_reason
from safevideo_common.clock import Clock, TimestampText, rfc3339
from safevideo_common.database import erasures
from safevideo_common.database.batches import batched
from safevideo_common.database.engine import Database
from safevideo_common.database.erasures import IdentifierKind, Identifiers
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.paging import Order, find_page
from safevideo_common.database.tables import legal_hold_subjects, legal_holds, user_identities
from safevideo_common.errors import InvalidStatusTransition, LegalHold
from safevideo_common.events.envelope import ExternalId, Timestamp
from safevideo_common.jobs.store import admin as job_admin
from safevideo_common.privacy.jobs import erasure_job, retention_job
from safevideo_common.users import store as users
from safevideo_common.users.person import LockedPerson, Person, Reference, lock, lock_known

HOLD_PLACED: Final = "users.hold_placed"
HOLD_RELEASED: Final = "users.hold_released"
REPETITION: Final = timedelta(hours=24)
"""A repeated release by the same caller within this time gets the first answer."""

_h: Final = legal_holds.c
_s: Final = legal_hold_subjects.c
_i: Final = user_identities.c


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold. `reason` names a case and no personal data: it is in the audit log."""

    id: int
    user_id: int | None
    performer_id: str | None
    reason: str
    placed_at: datetime
    placed_by: str


class HoldDocument(TypedDict):
    """A legal hold. `userId` is null for a performer without an account."""

    holdId: int
    userId: int | None
    performerId: str | None
    reason: str
    placedAt: TimestampText
    placedBy: str


class ExportedHold(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """A hold as it is kept with a backup, with all of the person that it is on. `identities` are digests.

    A released one is among them: in an older backup it is still active.
    """

    id: int
    reason: str
    placed_at: Timestamp
    placed_by: str
    performer_ids: Sequence[ExternalId]
    identities: Sequence[ExternalId]
    released_at: Timestamp | None = None
    released_by: str | None = None
    release_reason: str | None = None


class ImportedHolds(NamedTuple):
    """The ids, as exported, of the holds that were placed again, whose person is not here, and that were released."""

    added: Sequence[int]
    without_person: Sequence[int]
    released: Sequence[int] = ()


def hold_document(hold: Hold) -> HoldDocument:
    """Return the JSON document of a legal hold."""
    return {
        "holdId": hold.id,
        "userId": hold.user_id,
        "performerId": hold.performer_id,
        "reason": hold.reason,
        "placedAt": rfc3339(hold.placed_at),
        "placedBy": hold.placed_by,
    }


AlsoInTransaction = Callable[[AsyncConnection, Hold], Awaitable[None]]
"""A further effect in the transaction that places a hold."""


class LegalHolds:
    """Places and releases holds. Every method raises the errors of the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(
        self, reference: Reference, reason: str, caller: Caller, also: AlsoInTransaction | None = None
    ) -> Hold:
        """Place a hold on the person with this account, or performer of Sharegram. A person may have several.

        `also` adds to its transaction.

        Raises `UserNotFound`, `PerformerNotFound`, `ValidationFailed`, and `InvalidStatusTransition` for a person who
        is erased already.
        """
        check_reason(reason)

        async def attempt() -> Hold:
            async with self._database.transaction() as tx:
                locked = await lock(tx, reference)
                await _require_not_started(tx, locked.person)
                hold = await self._insert(locked, reason, self._clock(), caller.name)
                details = {"holdId": hold.id, "userId": hold.user_id, "reason": reason}
                await audit_store.record(tx, caller.entry(HOLD_PLACED, self._clock, details, f"hold:{hold.id}"))
                if also is not None:
                    await also(tx, hold)
                return hold

        return await retry_on_conflict(attempt)

    async def release(self, reference: Reference, reason: str, caller: Caller) -> Sequence[Hold]:
        """Release every active hold on the person, and return them. Others who share one keep it.

        What the holds kept back comes now: the retention, and an erasure that waits. A repetition returns the same
        holds. Raises `UserNotFound`, `PerformerNotFound`, `ValidationFailed`, and `InvalidStatusTransition` without a
        hold.
        """
        check_reason(reason)

        async def attempt() -> Sequence[Hold]:
            async with self._database.transaction() as tx:
                locked = await lock(tx, reference)
                active = await active_holds(tx, locked.person)
                if not active:
                    return await self._released_before(tx, locked.person, reason, caller)
                for each in active:
                    await self._release(locked, each.id, reason, caller.name)
                    details = {"holdId": each.id, "userId": each.user_id, "reason": reason}
                    await audit_store.record(tx, caller.entry(HOLD_RELEASED, self._clock, details, f"hold:{each.id}"))
                await _enqueue_kept_back(tx, locked.person, caller)
                return active

        return await retry_on_conflict(attempt)

    async def export(self) -> Sequence[ExportedHold]:
        """Return all holds, by what a restored backup knows a person by.

        An account's id is not among it: after a restore another person may have that id.
        """
        async with self._database.read_connection() as reading:
            rows = (await reading.execute(select(legal_holds).order_by(_h.id))).all()
            exported: list[ExportedHold] = []
            for row in rows:
                names = await _subjects_of(reading, row.id, only_active=row.released_at is None)
                performer_ids, identities = names[IdentifierKind.PERFORMER], set(names[IdentifierKind.IDENTITY])
                identities |= set(await users.digests_of(reading, [int(each) for each in names[IdentifierKind.USER]]))
                exported.append(
                    ExportedHold(
                        row.id, row.reason, row.placed_at, row.placed_by, performer_ids, sorted(identities),
                        row.released_at, row.released_by, row.release_reason,
                    )
                )  # fmt: skip
        return exported

    async def import_holds(self, exported: Sequence[ExportedHold], caller: Caller) -> ImportedHolds:
        """Place the holds that a restored database does not have, and release those that were released since.

        A repetition places none twice. A hold that was released after it was exported is placed again only if the
        database does not have it. Raises `ValidationFailed`.
        """
        outcomes: dict[str, list[int]] = {"added": [], "without_person": [], "released": [], "there": []}
        for each in exported:
            check_reason(each.reason)
            outcomes[await retry_on_conflict(partial(self._import, each, caller))].append(each.id)
        return ImportedHolds(outcomes["added"], outcomes["without_person"], outcomes["released"])

    async def _import(
        self, exported: ExportedHold, caller: Caller
    ) -> Literal["added", "without_person", "released", "there"]:
        async with self._database.transaction() as tx:
            mine = list(await tx.scalars(select(_i.user_id).where(_i.digest.in_(exported.identities))))
            locked = await lock_known(tx, mine, exported.performer_ids)
            query = select(legal_holds).where(_on(locked.person), *_is_same(exported)).order_by(_h.id).limit(1)
            here = (await tx.execute(query)).one_or_none()
            if exported.released_at is not None:
                if here is None or here.released_at is not None:
                    return "there"
                reason = exported.release_reason or exported.reason
                await self._release(locked, here.id, reason, caller.name)
                details: dict[str, object] = {"holdId": here.id, "importedFrom": exported.id, "reason": reason}
                await audit_store.record(tx, caller.entry(HOLD_RELEASED, self._clock, details, f"hold:{here.id}"))
                await _enqueue_kept_back(tx, locked.person, caller)
                return "released"
            if here is not None:
                return "there"
            if not locked.person.user_ids and not locked.person.performer_ids:
                return "without_person"
            hold = await self._insert(locked, exported.reason, exported.placed_at, exported.placed_by)
            details = {"holdId": hold.id, "importedFrom": exported.id, "reason": exported.reason}
            await audit_store.record(tx, caller.entry(HOLD_PLACED, self._clock, details, f"hold:{hold.id}"))
            return "added"

    async def _insert(self, locked: LockedPerson, reason: str, placed_at: datetime, placed_by: str) -> Hold:
        tx, person = locked.tx, locked.person
        row = {
            "user_id": person.user_ids[0] if person.user_ids else None,
            "performer_id": person.performer_ids[0] if person.performer_ids else None,
            "reason": reason,
            "placed_at": placed_at,
            "placed_by": placed_by,
        }
        hold_id = int((await tx.execute(insert(legal_holds).values(row))).lastrowid)
        names = person.identifiers(await users.digests_of(tx, person.user_ids))
        subjects = [{"hold_id": hold_id, "kind": kind, "identifier": each} for kind in names for each in names[kind]]
        await tx.execute(insert(legal_hold_subjects), subjects)
        return _hold((await tx.execute(select(legal_holds).where(_h.id == hold_id))).one())

    async def _release(self, locked: LockedPerson, hold_id: int, reason: str, released_by: str) -> None:
        """Release the person from a hold. It ends when it is on nobody any more."""
        tx, now = locked.tx, self._clock()
        names = locked.person.identifiers(await users.digests_of(tx, locked.person.user_ids))
        for condition in _among(names):
            released = update(legal_hold_subjects).where(_s.hold_id == hold_id, _s.released_at.is_(None), condition)
            await tx.execute(released.values(released_at=now))
        left = await _subjects_of(tx, hold_id, only_active=True)
        if not left[IdentifierKind.USER] and not left[IdentifierKind.PERFORMER]:
            values = {"released_at": now, "released_by": released_by, "release_reason": reason}
            await tx.execute(update(legal_holds).where(_h.id == hold_id).values(values))

    async def _released_before(
        self, tx: AsyncConnection, person: Person, reason: str, caller: Caller
    ) -> Sequence[Hold]:
        since = self._clock() - REPETITION
        mine = (_h.released_by == caller.name, _h.release_reason == reason, _h.released_at > since)
        query = select(legal_holds).where(_on(person), *mine).order_by(_h.id)
        if found := [_hold(row) for row in await tx.execute(query)]:
            return found
        raise InvalidStatusTransition("This person has no active hold.")


def encode_holds(holds: Sequence[ExportedHold]) -> str:
    """Return the file that is kept with a backup, as JSON."""
    return msgspec.json.format(msgspec.json.encode({"holds": holds})).decode()


def decode_holds(content: bytes) -> Sequence[ExportedHold]:
    """Return the holds of a file of `encode_holds`. Raises `ValueError`."""
    return msgspec.json.decode(content, type=dict[Literal["holds"], list[ExportedHold]]).get("holds", [])


async def active_holds(connection: AsyncConnection, person: Person) -> Sequence[Hold]:
    """Return the active holds on a person, the oldest first."""
    query = select(legal_holds).where(_h.released_at.is_(None), _on(person, only_active=True)).order_by(_h.id)
    return [_hold(row) for row in await connection.execute(query)]


async def require_no_hold(connection: AsyncConnection, person: Person) -> None:
    """Raise `LegalHold` if a hold keeps the data of the person."""
    if active := await active_holds(connection, person):
        details = {"holdIds": [each.id for each in active], "reason": active[0].reason}
        raise LegalHold("A legal hold keeps the data of this person.", details=details)


async def find_active(
    reading: AsyncConnection, *, page: int, limit: int, order: Order = "desc"
) -> tuple[Sequence[Hold], int]:
    """Return one page of the active holds, and the number of all."""
    query = select(legal_holds).where(_h.released_at.is_(None))
    rows, total = await find_page(reading, query, (_h.placed_at, _h.id), page=page, limit=limit, order=order)
    return [_hold(row) for row in rows], total


def _is_same(exported: ExportedHold) -> tuple[ColumnElement[bool], ...]:
    return (_h.reason == exported.reason, _h.placed_at == exported.placed_at, _h.placed_by == exported.placed_by)


def _on(person: Person, *, only_active: bool = False) -> ColumnElement[bool]:
    """Return the condition that a hold is on the person."""
    still = [_s.released_at.is_(None)] if only_active else []
    named = exists().where(_s.hold_id == _h.id, or_(*_among(person.identifiers())), *still)
    # A hold that a process of an earlier release has placed has no subjects.
    without_subjects = ~exists().where(_s.hold_id == _h.id)
    earlier = or_(_h.user_id.in_(person.user_ids), _h.performer_id.in_(person.performer_ids))
    return or_(named, and_(without_subjects, earlier))


def _among(names: Identifiers) -> list[ColumnElement[bool]]:
    return [
        and_(_s.kind == kind, _s.identifier.in_(batch)) for kind, values in names.items() for batch in batched(values)
    ] or [_s.hold_id.is_(None)]


async def _subjects_of(
    connection: AsyncConnection, hold_id: int, *, only_active: bool
) -> dict[IdentifierKind, list[str]]:
    found: dict[IdentifierKind, list[str]] = {kind: [] for kind in IdentifierKind}
    query = select(_s.kind, _s.identifier).where(_s.hold_id == hold_id).order_by(_s.kind, _s.identifier)
    if only_active:
        query = query.where(_s.released_at.is_(None))
    for kind, identifier in await connection.execute(query):
        found[IdentifierKind(kind)].append(identifier)
    return found


async def _require_not_started(tx: AsyncConnection, person: Person) -> None:
    order = await erasures.find_started_order(tx, person.identifiers())
    if order is not None:
        state = "is erased already" if order.applied_at is not None else "is being erased"
        raise InvalidStatusTransition(f"This person {state}.", details={"orderId": order.id})


async def _enqueue_kept_back(tx: AsyncConnection, person: Person, caller: Caller) -> None:
    """Enqueue what holds on the person have kept back, if nothing else keeps it."""
    await job_admin.enqueue(tx, retention_job(caller))
    for order in await erasures.find_orders(tx, person.identifiers()):
        if order.applied_at is None:
            await job_admin.enqueue(tx, erasure_job(order.id, caller))


def _hold(row: Row[*tuple[object, ...]]) -> Hold:
    return Hold(row.id, row.user_id, row.performer_id, row.reason, row.placed_at, row.placed_by)
