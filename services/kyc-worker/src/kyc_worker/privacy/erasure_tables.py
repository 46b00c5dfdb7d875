"""The erasure of a person in each table: the one list of all places in the database that hold personal data.

Every function may run again at any time: it finds what a restored backup or a race with a consumer has brought back.
`tests/integration/test_erasure.py` names each table of the schema, so a new one is put here or said to hold nothing.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import and_, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from kyc_worker.privacy.retention_job import delete_request_data
from safevideo_common.database import kyc_requests as requests_store
from safevideo_common.database import performers as performers_store
from safevideo_common.database.batches import chunks
from safevideo_common.database.performers import LockedPerformer
from safevideo_common.database.tables import (
    batch_jobs,
    document_deletions,
    event_inbox,
    idempotency_keys,
    kyc_documents,
    kyc_requests,
    rejected_webhooks,
    user_identities,
    user_merges,
    users,
)
from safevideo_common.domain.kyc import OPEN, KycRules, KycStatus, RejectionReason
from safevideo_common.domain.outcomes import Status
from safevideo_common.domain.performers import DEFAULTS, FIELDS, PUBLIC_NAMES
from safevideo_common.encryption import Cipher, DecryptionFailed
from safevideo_common.events.change_events import KYC_CHANGED, Cause, PerformerChange, next_sequence, performer_changed
from safevideo_common.events.envelope import Envelope
from safevideo_common.inbox.processor import PERSON_ERASED
from safevideo_common.jobs.model import JobStatus
from safevideo_common.kyc.decisions import record_decision
from safevideo_common.outbox import store as outbox_store
from safevideo_common.users import role_grants, store
from safevideo_common.users.merge import separate
from safevideo_common.users.person import LockedPerson, Person

ERASED_CAUSE: Final = "safevideo.person.erased"
"""The cause of the change event that tells others to erase the performer too."""
ERASURE_ID: Final = b"erasure-"
ERASED_FIELDS: Final = {**dict.fromkeys(FIELDS), **DEFAULTS}
ROWS_PER_SCAN: Final = 50
JOB_TYPES_WITH_PERFORMERS: Final = ("event_replay", "performer_sync")
"""Their results and cursors name performers; those of a dry run have values too."""

_u, _r, _e, _j, _q = users.c, kyc_requests.c, event_inbox.c, batch_jobs.c, rejected_webhooks.c
_k: Final = idempotency_keys.c


async def erase_accounts(tx: AsyncConnection, locked: LockedPerson, person: Person, now: datetime) -> Sequence[int]:
    """Empty the accounts, and what merges of them have recorded. Return the ids of the accounts that were not empty.

    Their sessions end with the commit. An identity keeps its digest: so the person cannot sign in again. An account
    that is merged into one of these and is not the person's own is taken out first.
    """
    for each in locked.accounts.values():
        if each.merged_into in person.user_ids and each.id not in person.user_ids:
            await separate(locked, each.id)
    found = [user_id for user_id in person.user_ids if locked.accounts[user_id].erased_at is None]
    for user_id in found:
        values: dict[str, object] = dict.fromkeys(
            ("is_email_verified", "sharegram_id", "username", "display_name", "profile_image", "merged_email")
        )
        values |= {"email": f"erased:{user_id}", "erased_at": now, "updated_at": now}
        await store.set_values(locked, user_id, **values, generation=store.new_generation())
    identities, merges = user_identities.c, user_merges.c
    await tx.execute(update(user_identities).where(identities.user_id.in_(person.user_ids)).values(subject=""))
    involved = or_(merges.primary_id.in_(person.user_ids), merges.duplicate_id.in_(person.user_ids))
    await tx.execute(update(user_merges).where(involved, merges.unmerged_at.is_(None)).values(unmerged_at=now))
    await tx.execute(update(user_merges).where(involved).values(moved={}))
    await role_grants.erase(locked, [locked.accounts[user_id] for user_id in person.user_ids], now)
    return found


async def erase_performers(tx: AsyncConnection, person: Person, now: datetime) -> Sequence[int]:
    """Empty the performers, delete their messages that are not published yet, and publish that they are empty.

    Return our ids of those that were not empty.
    """
    stored = await performers_store.load_for_update(tx, person.performer_ids)
    emptied: list[LockedPerformer] = []
    messages = []
    for name, row in sorted(stored.items()):
        if dict(row.performer.fields) == ERASED_FIELDS and row.performer.decision is None:
            continue
        after = row.performer._replace(fields=ERASED_FIELDS, deleted_at=row.performer.deleted_at or now, decision=None)
        sequence = next_sequence(row.sequence, now)
        emptied.append(LockedPerformer(row.id, after, sequence))
        changes = {PUBLIC_NAMES[field]: value for field, value in ERASED_FIELDS.items()} | {"deletedAt": now}
        cause = Envelope(f"{ERASURE_ID.decode()}{row.id}-{sequence}", ERASED_CAUSE, now, name)
        messages.append(performer_changed(cause, PerformerChange(name, changes, sequence, None, now, Cause.of(cause))))
    await performers_store.update(tx, emptied, now)
    await outbox_store.discard(tx, [name.encode() for name in person.performer_ids], _has_no_personal_data)
    await outbox_store.record(tx, messages, now)
    return [row.id for row in emptied]


def _has_no_personal_data(headers: Mapping[str, bytes]) -> bool:
    """Return whether a message is about a KYC request, or about an erasure. An earlier run may have written it."""
    return headers.get("ce_type") == KYC_CHANGED.encode() or headers.get("ce_id", b"").startswith(ERASURE_ID)


async def requests_to_erase(connection: AsyncConnection, person: Person) -> Sequence[int]:
    """Return the ids of KYC requests that hold personal data or still have files, or are not decided."""
    has_data = or_(
        *(column.is_not(None) for column in (_r.applicant, _r.result, _r.risk_score, _r.decision_notes)),
        exists().where(kyc_documents.c.request_id == _r.id),
        exists().where(document_deletions.c.request_id == _r.id),
        _r.status.in_(OPEN),
    )
    query = select(_r.id).where(_r.performer_id.in_(person.performer_ids), has_data).order_by(_r.id)
    return list(await connection.scalars(query))


async def erase_request(tx: AsyncConnection, request_id: int, now: datetime, rules: KycRules) -> None:
    """Delete the rows of a request's documents and its personal data. Its decision stays.

    An open request is rejected, so that nobody waits for it. The files are deleted after the commit.
    """
    stored = await requests_store.get(tx, request_id, locked=True)
    if stored is None:
        return
    if stored.request.status in OPEN:
        reason = RejectionReason.OTHER
        await record_decision(
            tx, stored.request, KycStatus.REJECTED, now, rules, decided_by="person_erasure", reason=reason
        )
    await delete_request_data(tx, request_id, now)
    await requests_store.set_values(
        tx, request_id, result=None, risk_score=None, decision_notes=None, document_expires_on=None, review_reason=None
    )


async def erase_events(tx: AsyncConnection, person: Person, now: datetime) -> int:
    """Drop the bodies of waiting and dead events of the person. They are `ignored` from now on."""
    mine = and_(_e.performer_id.in_(person.performer_ids), _e.payload.is_not(None))
    return (await tx.execute(update(event_inbox).where(mine).values(_ignored(now)))).rowcount


async def erase_events_without_performer(
    tx: AsyncConnection, names: re.Pattern[bytes], after: int, now: datetime
) -> int | None:
    """Do so with the next events that nobody could read and whose bytes have the person's id.

    Return the id of the last row, or None after the last one.
    """
    query = select(_e.id, _e.payload).where(_e.performer_id.is_(None), _e.payload.is_not(None), _e.id > after)
    rows = (await tx.execute(query.order_by(_e.id).limit(ROWS_PER_SCAN))).all()
    if matching := [row.id for row in rows if names.search(row.payload)]:
        await tx.execute(update(event_inbox).where(_e.id.in_(matching)).values(_ignored(now)))
    return rows[-1].id if rows else None


async def erase_rejected_webhooks(
    tx: AsyncConnection, names: re.Pattern[bytes], cipher: Cipher, after: int
) -> int | None:
    """Delete the next quarantined webhooks whose bodies have the person's id. One that no key opens stays till its end.

    Return the id of the last row, or None after the last one.
    """
    query = select(_q.id, _q.fingerprint, _q.body).where(_q.id > after).order_by(_q.id).limit(ROWS_PER_SCAN)
    rows = (await tx.execute(query)).all()
    matching = [row.id for row in rows if names.search(_decrypted(cipher, row.body, row.fingerprint))]
    if matching:
        await tx.execute(rejected_webhooks.delete().where(_q.id.in_(matching)))
    return rows[-1].id if rows else None


async def erase_kept_responses(tx: AsyncConnection, names: re.Pattern[bytes], after: int) -> int | None:
    """Delete the next idempotency keys whose responses have the person's id. Their requests may be repeated.

    Return the id of the last row, or None after the last one.
    """
    query = select(_k.id, _k.document).where(_k.document.is_not(None), _k.id > after)
    rows = (await tx.execute(query.order_by(_k.id).limit(ROWS_PER_SCAN))).all()
    if matching := [row.id for row in rows if names.search(msgspec.json.encode(row.document))]:
        await tx.execute(idempotency_keys.delete().where(_k.id.in_(matching)))
    return rows[-1].id if rows else None


async def erase_job_results(tx: AsyncConnection, performer_ids: Collection[str], after: int) -> int | None:
    """Take the person out of the results and cursors of the next jobs that name performers, unless they run now.

    Return the id of the last row, or None after the last one.
    """
    query = select(_j.id, _j.result, _j.cursor).where(
        _j.job_type.in_(JOB_TYPES_WITH_PERFORMERS), _j.status != JobStatus.PROCESSING, _j.id > after
    )
    rows = (await tx.execute(query.order_by(_j.id).limit(ROWS_PER_SCAN))).all()
    for row in rows:
        result, cursor = without_performers(row.result, performer_ids), without_performers(row.cursor, performer_ids)
        if (result, cursor) != (row.result, row.cursor):
            await tx.execute(update(batch_jobs).where(_j.id == row.id).values(result=result, cursor=cursor))
    return rows[-1].id if rows else None


def without_performers(document: Any, performer_ids: Collection[str]) -> Any:
    """Return a JSON document without the members of its lists that are about one of the performers."""
    if isinstance(document, dict):
        return {name: without_performers(value, performer_ids) for name, value in document.items()}
    if not isinstance(document, list):
        return document
    return [
        without_performers(each, performer_ids)
        for each in document
        if not (isinstance(each, dict) and each.get("performerId") in performer_ids)
    ]


async def accounts_of(
    connection: AsyncConnection, performer_ids: Collection[str], digests: Collection[str]
) -> set[int]:
    """Return the accounts with one of these Sharegram ids or identities: a restored backup may have them again."""
    found: set[int] = set()
    for chunk in chunks(performer_ids):
        found.update(await connection.scalars(select(_u.id).where(_u.sharegram_id.in_(chunk))))
    for chunk in chunks(digests):
        mine = user_identities.c.digest.in_(chunk)
        found.update(await connection.scalars(select(user_identities.c.user_id).where(mine)))
    return found


def names_in_bytes(performer_ids: Collection[str]) -> re.Pattern[bytes]:
    """Return a pattern of these ids as JSON strings."""
    return re.compile(b"|".join(re.escape(f'"{each}"'.encode()) for each in sorted(performer_ids)))


def _ignored(now: datetime) -> dict[str, object]:
    return {
        "status": Status.IGNORED,
        "reason": PERSON_ERASED.reason,
        "payload": None,
        "next_try_at": None,
        "decided_at": now,
    }


def _decrypted(cipher: Cipher, body: bytes, fingerprint: str) -> bytes:
    try:
        return cipher.decrypt(body, fingerprint)
    except DecryptionFailed:
        return b""
