"""Legal holds. While a person has an active one, no retention and no erasure deletes anything of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypedDict

from sqlalchemy import ColumnElement, Row, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import Caller
from safevideo_common.clock import Clock, TimestampText, rfc3339
from safevideo_common.database import erasures
from safevideo_common.database.engine import Database
from safevideo_common.database.erasures import IdentifierKind
from safevideo_common.database.errors import retry_on_conflict
from safevideo_common.database.paging import Order, find_page
from safevideo_common.database.tables import legal_holds
from safevideo_common.errors import InvalidStatusTransition, LegalHold, ValidationFailed
from safevideo_common.privacy.person import Person, find_person
from safevideo_common.users import store as users

HOLD_PLACED: Final = "users.hold_placed"
HOLD_RELEASED: Final = "users.hold_released"
MAX_REASON: Final = 255

_h: Final = legal_holds.c


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


class LegalHolds:
    """Places and releases holds. Every method raises the errors of the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def create(self, reference: int | str, reason: str, caller: Caller) -> Hold:
        """Place a hold on the person with this account, or performer of Sharegram. A person may have several.

        Raises `UserNotFound`, `PerformerNotFound`, `ValidationFailed`, and `InvalidStatusTransition` for a person who
        is erased already.
        """
        check_reason(reason)

        async def attempt() -> Hold:
            async with self._database.transaction() as tx:
                person = await _locked(tx, reference)
                await _require_not_erased(tx, person)
                user_id = person.user_ids[0] if person.user_ids else None
                row = {
                    "user_id": user_id,
                    "performer_id": person.performer_ids[0] if person.performer_ids else None,
                    "reason": reason,
                    "placed_at": self._clock(),
                    "placed_by": caller.name,
                }
                hold_id = (await tx.execute(insert(legal_holds).values(row))).lastrowid
                details = {"holdId": hold_id, "userId": user_id, "reason": reason}
                await audit_store.record(tx, caller.entry(HOLD_PLACED, self._clock, details, f"hold:{hold_id}"))
                return (await active_holds(tx, person))[-1]

        return await retry_on_conflict(attempt)

    async def release(self, reference: int | str, reason: str, caller: Caller) -> Sequence[Hold]:
        """Release every active hold on the person, and return them.

        Raises `UserNotFound`, `PerformerNotFound`, `ValidationFailed`, and `InvalidStatusTransition` without a hold.
        """
        check_reason(reason)

        async def attempt() -> Sequence[Hold]:
            async with self._database.transaction() as tx:
                active = await active_holds(tx, await _locked(tx, reference))
                if not active:
                    raise InvalidStatusTransition("This person has no active hold.")
                values = {"released_at": self._clock(), "released_by": caller.name, "release_reason": reason}
                await tx.execute(update(legal_holds).where(_h.id.in_([each.id for each in active])).values(values))
                for each in active:
                    details = {"holdId": each.id, "userId": each.user_id, "reason": reason}
                    await audit_store.record(tx, caller.entry(HOLD_RELEASED, self._clock, details, f"hold:{each.id}"))
                return active

        return await retry_on_conflict(attempt)


async def active_holds(connection: AsyncConnection, person: Person) -> Sequence[Hold]:
    """Return the active holds on a person, the oldest first."""
    query = select(legal_holds).where(_h.released_at.is_(None), _of(person)).order_by(_h.id)
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


def _of(person: Person) -> ColumnElement[bool]:
    return or_(_h.user_id.in_(person.user_ids), _h.performer_id.in_(person.performer_ids))


async def _require_not_erased(tx: AsyncConnection, person: Person) -> None:
    identifiers = {
        IdentifierKind.USER: [str(each) for each in person.user_ids],
        IdentifierKind.PERFORMER: person.performer_ids,
    }
    order_id = await erasures.find_order(tx, identifiers)
    order = None if order_id is None else await erasures.get_order(tx, order_id)
    if order is not None and order.applied_at is not None:
        raise InvalidStatusTransition("This person is erased already.", details={"orderId": order.id})


async def _locked(tx: AsyncConnection, reference: int | str) -> Person:
    """Return the person with its accounts locked, so that a hold and an erasure do not pass each other."""
    person = await find_person(tx, reference)
    await users.lock(tx, person.user_ids)
    return person


def check_reason(reason: str) -> None:
    """Raise `ValidationFailed` for a reason that is empty, too long, or more than one line."""
    if not 0 < len(reason.strip()) <= MAX_REASON or not reason.isprintable():
        raise ValidationFailed("Give a reason.", details={"reason": f"1 to {MAX_REASON} characters, one line"})


def _hold(row: Row[*tuple[object, ...]]) -> Hold:
    return Hold(row.id, row.user_id, row.performer_id, row.reason, row.placed_at, row.placed_by)
