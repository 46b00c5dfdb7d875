"""Legal holds. While a person has an active one, no retention and no erasure deletes anything of them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Literal, NamedTuple, TypedDict

import msgspec
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
from safevideo_common.database.tables import legal_holds, user_identities
from safevideo_common.domain.sentences import MAX_SENTENCE, is_sentence
from safevideo_common.errors import InvalidStatusTransition, LegalHold, ValidationFailed
from safevideo_common.events.envelope import ExternalId, Timestamp
from safevideo_common.privacy.person import Person, find_person, person_of_performer
from safevideo_common.users import store as users

HOLD_PLACED: Final = "users.hold_placed"
HOLD_RELEASED: Final = "users.hold_released"

_h: Final = legal_holds.c
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


class ExportedHold(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """An active hold as it is kept with a backup, with all of the person that it is on. `identities` are digests."""

    id: int
    reason: str
    placed_at: Timestamp
    placed_by: str
    performer_ids: Sequence[ExternalId]
    identities: Sequence[ExternalId]


class ImportedHolds(NamedTuple):
    """The ids, as exported, of the holds that were placed again, and of those whose person is not here."""

    added: Sequence[int]
    without_person: Sequence[int]


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
        self, reference: int | str, reason: str, caller: Caller, also: AlsoInTransaction | None = None
    ) -> Hold:
        """Place a hold on the person with this account, or performer of Sharegram. A person may have several.

        `also` adds to its transaction.

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
                hold = (await active_holds(tx, person))[-1]
                if also is not None:
                    await also(tx, hold)
                return hold

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

    async def export(self) -> Sequence[ExportedHold]:
        """Return all active holds, by what a restored backup knows a person by.

        An account's id is not among it: after a restore another person may have that id.
        """
        async with self._database.read_connection() as reading:
            rows = await reading.execute(select(legal_holds).where(_h.released_at.is_(None)).order_by(_h.id))
            exported: list[ExportedHold] = []
            for hold in map(_hold, rows):
                reference = hold.user_id if hold.performer_id is None else hold.performer_id
                person = Person((), ()) if reference is None else await _person_of(reading, reference)
                digests = select(_i.digest).where(_i.user_id.in_(person.user_ids)).order_by(_i.digest)
                identities = list(await reading.scalars(digests))
                exported.append(
                    ExportedHold(hold.id, hold.reason, hold.placed_at, hold.placed_by, person.performer_ids, identities)
                )
        return exported

    async def import_holds(self, exported: Sequence[ExportedHold], caller: Caller) -> ImportedHolds:
        """Place the holds that a restored database does not have. A repetition places none twice.

        A hold that was released after it was exported is placed again only if the database does not have it.
        Raises `ValidationFailed`.
        """
        added: list[int] = []
        without_person: list[int] = []
        for each in exported:
            check_reason(each.reason)
            outcome = await retry_on_conflict(partial(self._import, each, caller))
            if outcome is None:
                without_person.append(each.id)
            elif outcome:
                added.append(each.id)
        return ImportedHolds(added, without_person)

    async def _import(self, exported: ExportedHold, caller: Caller) -> bool | None:
        """Return whether the hold was placed, or None if nothing here belongs to its person."""
        async with self._database.transaction() as tx:
            existing_ids = list(await tx.scalars(select(_i.user_id).where(_i.digest.in_(exported.identities))))
            references: list[int | str] = [*existing_ids, *exported.performer_ids]
            if not references:
                return None
            person = await _person_of(tx, references[0])
            await users.lock(tx, person.user_ids)
            if await tx.scalar(select(_h.id).where(_of(person), *_is_same(exported)).limit(1)) is not None:
                return False
            row = {
                "user_id": person.user_ids[0] if person.user_ids else None,
                "performer_id": person.performer_ids[0] if person.performer_ids else None,
                "reason": exported.reason,
                "placed_at": exported.placed_at,
                "placed_by": exported.placed_by,
            }
            hold_id = (await tx.execute(insert(legal_holds).values(row))).lastrowid
            details = {"holdId": hold_id, "importedFrom": exported.id, "reason": exported.reason}
            await audit_store.record(tx, caller.entry(HOLD_PLACED, self._clock, details, f"hold:{hold_id}"))
            return True


def encode_holds(holds: Sequence[ExportedHold]) -> str:
    """Return the file that is kept with a backup, as JSON."""
    return msgspec.json.format(msgspec.json.encode({"holds": holds})).decode()


def decode_holds(content: bytes) -> Sequence[ExportedHold]:
    """Return the holds of a file of `encode_holds`. Raises `ValueError`."""
    return msgspec.json.decode(content, type=dict[Literal["holds"], list[ExportedHold]]).get("holds", [])


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


async def _person_of(connection: AsyncConnection, reference: int | str) -> Person:
    """Return the person, also of a performer of whom nothing is here yet: a sync may bring it."""
    if isinstance(reference, int):
        return await find_person(connection, reference)
    return await person_of_performer(connection, reference)


def _is_same(exported: ExportedHold) -> tuple[ColumnElement[bool], ...]:
    return (_h.reason == exported.reason, _h.placed_at == exported.placed_at, _h.placed_by == exported.placed_by)


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
    if not is_sentence(reason):
        raise ValidationFailed("Give a reason.", details={"reason": f"1 to {MAX_SENTENCE} characters, one line"})


def _hold(row: Row[*tuple[object, ...]]) -> Hold:
    return Hold(row.id, row.user_id, row.performer_id, row.reason, row.placed_at, row.placed_by)
