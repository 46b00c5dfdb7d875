"""Writes the master's records of performers, and deletions, together with the change events that report them.

A field that a newer webhook has written keeps its value. A record that changes nothing is not written or published.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, Protocol

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.broker.types import Message
from safevideo_common.clock import Clock
from safevideo_common.database import erasures, performers
from safevideo_common.database.erasures import IdentifierKind
from safevideo_common.database.performers import LockedPerformer
from safevideo_common.domain.performers import PUBLIC_NAMES, Performer, PerformerPatch, changed_fields, take_record
from safevideo_common.events.change_events import Cause, PerformerChange, next_sequence, performer_changed
from safevideo_common.events.envelope import Envelope, id_with_suffix, write_version_of
from safevideo_common.events.performer import LongText, ShortText, Status, Url
from safevideo_common.outbox import store as outbox_store
from safevideo_common.sharegram.operations import PerformerRecord

CAUSED_BY: Final = "performer.synced"


class CacheInvalidator(Protocol):
    """Invalidates cached performers around a write."""

    async def invalidate(self, performer_ids: Collection[int]) -> None:
        """Invalidate the cached values, now or later. Must not raise."""
        ...


class SyncCause(NamedTuple):
    """The sync that writes. Its name makes the ids of its change events, so a repeated page has the same ids."""

    name: str
    """Such as `sync-41`: at most 40 visible ASCII characters."""
    request_id: str = ""


class StorableFields(msgspec.Struct, frozen=True):
    """The bounds of the columns. A record that exceeds them must not fail its whole page."""

    username: ShortText | None
    display_name: ShortText | None
    email: ShortText | None
    profile_image: Url | None
    bio: LongText | None
    verified: bool
    status: Status


@dataclass(slots=True)
class MirrorResult:
    """The effect of some records. Each record is counted once."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    invalid: int = 0
    """Records with values that no webhook may have either. Nothing of them is written."""
    written_ids: list[int] = field(default_factory=list)
    """Our ids of the rows that existed and were written."""
    fields: dict[str, list[str]] = field(default_factory=dict)
    """By Sharegram id, the wire names of the fields that have another value; of a new performer none."""


class PerformerMirror:
    """Writes records of the master. The caller opens the transaction, and calls `committed` after it."""

    def __init__(self, cache: CacheInvalidator, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock

    async def write(
        self, tx: AsyncConnection, records: Iterable[PerformerRecord], cause: SyncCause, *, only_new: bool = False
    ) -> MirrorResult:
        """Write the records with their change events. `only_new` leaves performers that exist as they are.

        The cached values are invalidated before the commit too, which keeps anything from being cached for ten seconds:
        a process that dies after its commit leaves no old value. Raises `DatabaseConflict`: then nothing is written.
        """
        patches, result = await _patches(tx, records)
        stored = await performers.load_for_update(tx, patches)
        now, messages, new, updated = self._clock(), list[Message](), list[Performer](), list[LockedPerformer]()
        sequences: dict[str, int] = {}
        for name, (record, patch) in sorted(patches.items()):
            row = stored.get(name)
            before = row.performer if row else Performer(name)
            after = take_record(before, patch)
            if row is not None and (only_new or after == before):
                result.unchanged += 1
                continue
            changes = _changes(row and before, after)
            sequence = row.sequence if row else 0
            if changes:
                sequence = next_sequence(sequence, now)
                messages.append(_message(record, changes, sequence, cause))
            if row is None:
                result.created += 1
                new.append(after)
                sequences[name] = sequence
            else:
                result.updated += 1
                result.fields[name] = list(changes)
                updated.append(LockedPerformer(row.id, after, sequence))
        await self._store(tx, new, updated, sequences, messages, now)
        result.written_ids = [row.id for row in updated]
        return result

    async def mark_deleted(
        self, tx: AsyncConnection, sharegram_ids: Collection[str], before: datetime, cause: SyncCause
    ) -> Sequence[int]:
        """Mark performers as deleted unless they were written at or after `before`. Return our ids of the marked ones.

        Rows, requests and documents stay. Another call changes nothing.
        """
        stored = await performers.load_for_update(tx, sharegram_ids)
        untouched = await performers.not_written_since(tx, stored, before)
        now, messages, marked = self._clock(), list[Message](), list[LockedPerformer]()
        for name in sorted(untouched):
            row = stored[name]
            after = row.performer._replace(deleted_at=now)
            sequence = next_sequence(row.sequence, now)
            envelope = _envelope(name, f"#{cause.name}-deleted", now, cause)
            change = PerformerChange(name, {"deletedAt": now}, sequence, None, now, Cause.of(envelope))
            messages.append(performer_changed(envelope, change))
            marked.append(LockedPerformer(row.id, after, sequence))
        await self._store(tx, [], marked, {}, messages, now)
        return [row.id for row in marked]

    async def committed(self, performer_ids: Collection[int]) -> None:
        """Invalidate the cached values of the written rows. Call it also if the result of a commit is unknown."""
        if performer_ids:
            await self._cache.invalidate(performer_ids)

    async def _store(
        self, tx: AsyncConnection, new: Sequence[Performer], updated: Sequence[LockedPerformer],
        sequences: Mapping[str, int], messages: Sequence[Message], now: datetime,
    ) -> None:  # fmt: skip
        await performers.update(tx, updated, now)
        await performers.insert_new(tx, new, now, sequences)
        await outbox_store.record(tx, messages, now)
        await self.committed([row.id for row in updated])


async def compare(connection: AsyncConnection, records: Iterable[PerformerRecord]) -> MirrorResult:
    """Return what `write` would do, without locks: rows may change meanwhile."""
    patches, result = await _patches(connection, records)
    stored = await performers.load(connection, patches)
    for name, (_, patch) in patches.items():
        row = stored.get(name)
        if row is None:
            result.created += 1
        elif changes := _changes(row.performer, take_record(row.performer, patch)):
            result.updated += 1
            result.fields[name] = list(changes)
        else:
            result.unchanged += 1
    return result


def patch_of(record: PerformerRecord) -> PerformerPatch | None:
    """Return the patch that a record is, or None if a value of it exceeds its column."""
    profile = record.profile
    try:
        fields = msgspec.convert(
            {
                "username": profile.username,
                "display_name": profile.display_name,
                "email": profile.email,
                "profile_image": profile.profile_image,
                "bio": profile.bio,
                "verified": bool(profile.verified),
                "status": record.status,
            },
            StorableFields,
        )
    except msgspec.ValidationError:
        return None
    return PerformerPatch(msgspec.structs.asdict(fields), write_version_of(record.version, record.updated_at, 0))


async def _patches(
    connection: AsyncConnection, records: Iterable[PerformerRecord]
) -> tuple[dict[str, tuple[PerformerRecord, PerformerPatch]], MirrorResult]:
    """Return the records with their patches, of each performer the newest one, and none of an erased person."""
    patches: dict[str, tuple[PerformerRecord, PerformerPatch]] = {}
    result = MirrorResult()
    for record in records:
        patch = patch_of(record)
        if patch is None:
            result.invalid += 1
            continue
        earlier = patches.get(record.performer_id)
        if earlier is None or patch.write_version.wins_over(earlier[1].write_version):
            patches[record.performer_id] = record, patch
    for name in await erasures.erased(connection, IdentifierKind.PERFORMER, patches):
        del patches[name]
        result.unchanged += 1
    return patches, result


def _changes(before: Performer | None, after: Performer) -> dict[str, object]:
    """Return the fields that have another value, by their wire names. All fields of a new performer are among them."""
    if before is None:
        return {PUBLIC_NAMES[name]: value for name, value in after.visible_fields.items()}
    changes = {PUBLIC_NAMES[name]: value for name, value in changed_fields(before, after).items()}
    return changes | ({"deletedAt": None} if before.deleted_at is not None and after.deleted_at is None else {})


def _message(record: PerformerRecord, changes: Mapping[str, object], sequence: int, cause: SyncCause) -> Message:
    name, at = record.performer_id, record.updated_at
    envelope = _envelope(name, f"#{cause.name}@{record.version}", at, cause)
    return performer_changed(envelope, PerformerChange(name, changes, sequence, record.version, at, Cause.of(envelope)))


def _envelope(sharegram_id: str, suffix: str, at: datetime, cause: SyncCause) -> Envelope:
    return Envelope(id_with_suffix(sharegram_id, suffix), CAUSED_BY, at, sharegram_id, cause.request_id)
