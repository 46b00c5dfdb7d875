"""An account with everything that somebody needs who decides about it: who signs in, what binds it, who changed it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypedDict

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from safevideo_common.audit.store import AuditDocument, AuditRecord, audit_document, find_of_targets
from safevideo_common.auth.sessions import SessionStore, SessionsUnavailable, UserSession
from safevideo_common.clock import TimestampText, format_timestamp, rfc3339
from safevideo_common.database.erasures import IdentifierKind
from safevideo_common.database.tables import erased_identifiers, erasure_orders, kyc_requests, user_identities
from safevideo_common.users.directory import AccountSummaryDocument, ListedAccount, load_accounts, summary_document
from safevideo_common.users.person import Person, find_person
from safevideo_common.users.rights import REINSTATED, ROLE_CHANGED, SESSIONS_ENDED, SUSPENDED, target_of

RIGHTS_ACTIONS: Final = (ROLE_CHANGED, SUSPENDED, REINSTATED, SESSIONS_ENDED, "users.merged", "users.unmerged")
MAX_CHANGES: Final = 100
MAX_REQUESTS: Final = 20

_i: Final = user_identities.c
_o: Final = erasure_orders.c
_e: Final = erased_identifiers.c
_r: Final = kyc_requests.c


class IdentityDocument(TypedDict):
    """An identity by which a person signs in, and the account that it belongs to."""

    userId: int
    provider: str
    issuer: str
    subject: str
    createdAt: TimestampText


class AccountSessionDocument(TypedDict):
    """A session. `lastUsedAt` is to the minute; null until it is used after its sign-in. The id opens nothing."""

    sessionId: str
    provider: str
    createdAt: TimestampText
    expiresAt: TimestampText
    address: str | None
    lastUsedAt: TimestampText | None


class ErasureOrderDocument(TypedDict):
    """An order to erase the person."""

    orderId: int
    reason: str
    createdAt: TimestampText
    createdBy: str
    startedAt: TimestampText | None
    appliedAt: TimestampText | None


class AccountKycDocument(TypedDict):
    """A KYC request of the person."""

    requestId: int
    performerId: str
    status: str
    submittedAt: TimestampText
    expiresAt: TimestampText | None


@dataclass(frozen=True, slots=True)
class AccountDetails:
    """An account, and what belongs to its person."""

    listed: ListedAccount
    person: Person
    members: Sequence[ListedAccount]
    """The other accounts that it is merged with."""
    identities: Sequence[IdentityDocument]
    orders: Sequence[ErasureOrderDocument]
    kyc_requests: Sequence[AccountKycDocument]
    """The newest ones."""
    changes: Sequence[AuditRecord]
    """Every change of rights that the audit log still has, the newest first, and at most `MAX_CHANGES`."""


class DetailsDocument(TypedDict):
    """An account with all that belongs to its person, but for holds. `sessions` is null while Redis is unavailable."""

    account: AccountSummaryDocument
    userIds: list[int]
    performerIds: list[str]
    members: list[AccountSummaryDocument]
    identities: list[IdentityDocument]
    sessions: list[AccountSessionDocument] | None
    orders: list[ErasureOrderDocument]
    kycRequests: list[AccountKycDocument]
    changes: list[AuditDocument]


def details_document(details: AccountDetails, sessions: Sequence[AccountSessionDocument] | None) -> DetailsDocument:
    """Return the JSON document."""
    return {
        "account": summary_document(details.listed),
        "userIds": list(details.person.user_ids),
        "performerIds": list(details.person.performer_ids),
        "members": [summary_document(each) for each in details.members],
        "identities": list(details.identities),
        "sessions": None if sessions is None else list(sessions),
        "orders": list(details.orders),
        "kycRequests": list(details.kyc_requests),
        "changes": [audit_document(each) for each in details.changes],
    }


async def find_details(reading: AsyncConnection, user_id: int, now: datetime) -> AccountDetails:
    """Return an account with what belongs to its person. Raises `UserNotFound`."""
    (listed,) = await load_accounts(reading, [user_id], now)
    person = await find_person(reading, user_id)
    others = sorted(each for each in listed.whole.members if each != user_id)
    return AccountDetails(
        listed,
        person,
        await load_accounts(reading, others, now),
        await _identities(reading, list(listed.whole.members)),
        await _orders(reading, person),
        await _kyc_requests(reading, person.performer_ids),
        await find_of_targets(
            reading, [target_of(each) for each in listed.whole.members], RIGHTS_ACTIONS, limit=MAX_CHANGES
        ),
    )


async def find_sessions(sessions: SessionStore, details: AccountDetails) -> Sequence[AccountSessionDocument] | None:
    """Return the sessions of the account, the oldest first, or None while Redis is unavailable.

    Those whose generation has ended are not among them: they open nothing.
    """
    whole = details.listed.whole
    try:
        found = await sessions.of_user(whole.id)
        valid = [each for each in found if each.generation == whole.generation and whole.can_sign_in]
        uses = await sessions.last_uses([each.id for each in valid])
    except SessionsUnavailable:
        return None
    return [_session_document(each, uses.get(each.id)) for each in valid]


def _session_document(session: UserSession, last_used_at: datetime | None) -> AccountSessionDocument:
    return {
        "sessionId": session.id,
        "provider": session.provider,
        "createdAt": rfc3339(session.created_at),
        "expiresAt": rfc3339(session.expires_at),
        "address": session.address,
        "lastUsedAt": format_timestamp(last_used_at),
    }


async def _identities(reading: AsyncConnection, user_ids: Collection[int]) -> Sequence[IdentityDocument]:
    query = select(_i.user_id, _i.provider, _i.issuer, _i.subject, _i.created_at).where(_i.user_id.in_(user_ids))
    return [
        {
            "userId": row.user_id,
            "provider": row.provider,
            "issuer": row.issuer,
            "subject": row.subject,
            "createdAt": rfc3339(row.created_at),
        }
        for row in await reading.execute(query.order_by(_i.id))
    ]


async def _orders(reading: AsyncConnection, person: Person) -> Sequence[ErasureOrderDocument]:
    digests = select(_i.digest).where(_i.user_id.in_(person.user_ids))
    named = (
        (IdentifierKind.USER, [str(each) for each in person.user_ids]),
        (IdentifierKind.PERFORMER, person.performer_ids),
        (IdentifierKind.IDENTITY, digests),
    )
    order_ids: set[int] = set()
    for kind, identifiers in named:
        mine = select(_e.order_id).where(_e.kind == kind, _e.identifier.in_(identifiers))
        order_ids |= set(await reading.scalars(mine))
    rows = await reading.execute(select(erasure_orders).where(_o.id.in_(order_ids)).order_by(_o.id))
    return [
        {
            "orderId": row.id,
            "reason": row.reason,
            "createdAt": rfc3339(row.created_at),
            "createdBy": row.created_by,
            "startedAt": format_timestamp(row.started_at),
            "appliedAt": format_timestamp(row.applied_at),
        }
        for row in rows
    ]


async def _kyc_requests(reading: AsyncConnection, performer_ids: Sequence[str]) -> Sequence[AccountKycDocument]:
    if not performer_ids:
        return []
    columns = (_r.id, _r.performer_id, _r.status, _r.created_at, _r.expires_at)
    query = select(*columns).where(_r.performer_id.in_(performer_ids)).order_by(_r.id.desc()).limit(MAX_REQUESTS)
    return [
        {
            "requestId": row.id,
            "performerId": row.performer_id,
            "status": row.status,
            "submittedAt": rfc3339(row.created_at),
            "expiresAt": format_timestamp(row.expires_at),
        }
        for row in await reading.execute(query)
    ]
