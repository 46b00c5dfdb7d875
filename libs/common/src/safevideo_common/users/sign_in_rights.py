"""The role of an account at a sign-in: a grant that waited for its e-mail, or a claim of the provider.

A provider's claim gives no more than `performer`, unless a setting maps one to a role (`Identity.claimed_role`). A role
by claim lasts until a sign-in without it, with whichever provider. A role that an admin gave stands until it ends.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from safevideo_common.audit import store as audit_store
from safevideo_common.audit.store import AuditEntry
from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import format_timestamp
from safevideo_common.database.person_locks import PersonLock
from safevideo_common.users import role_grants, store
from safevideo_common.users.rights import BY_ADMIN, BY_CLAIM, ROLE_CHANGED, role_after, target_of
from safevideo_common.users.role_grants import PendingGrant
from safevideo_common.users.store import Identity, User

PROVIDER: Final = "provider"
GRANT: Final = "grant"
"""The roles of actors in the audit log: a provider, and who placed a grant before."""


async def role_at_sign_in(
    lock: PersonLock, user: User, identity: Identity, now: datetime, *, may_use_grant: bool
) -> User:
    """Return the account with the role that it has from this sign-in on, and write it if it is another.

    `may_use_grant` says that the identity is new here, and that its e-mail is proven.
    """
    pending = None
    if may_use_grant and identity.email is not None:
        pending = await role_grants.find_for_email(lock, identity.email, now)
    if pending is not None and (pending.grant.ends_at is None or pending.grant.ends_at > now):
        user = await _use_grant(lock, user, pending, now)
    role = role_by_claim(user, identity.claimed_role, now)
    return user if role is None else await _use_claim(lock, user, role, identity, now)


def role_by_claim(user: User, claimed: Role | None, now: datetime) -> Role | None:
    """Return the role that a sign-in with this claim gives the account, or None if it changes nothing."""
    is_of_admin = user.role_source == BY_ADMIN and (user.role_ends_at is None or user.role_ends_at > now)
    if is_of_admin:
        return None
    if user.role_source == BY_CLAIM:
        role = claimed or Role.PERFORMER
        return None if claimed is user.role else role
    return claimed if claimed is not None and claimed is not user.role_in_force(now) else None


async def _use_grant(lock: PersonLock, user: User, pending: PendingGrant, now: datetime) -> User:
    grant, before = pending.grant, user.role_in_force(now)
    after = replace(
        user,
        role=grant.role,
        role_source=BY_ADMIN,
        role_ends_at=grant.ends_at,
        role_afterwards=None if grant.ends_at is None else role_after(grant.role, before),
        version=user.version + 1,
    )
    await _write(lock, after)
    await role_grants.mark_used(lock, pending, user.id, now)
    details = {
        "roleBefore": before, "role": grant.role, "until": format_timestamp(grant.ends_at), "reason": pending.reason,
        "grantId": pending.id, "versionBefore": user.version,
    }  # fmt: skip
    entry = AuditEntry(now, pending.granted_by, GRANT, ROLE_CHANGED, None, None, details, target_of(user.id))
    await audit_store.record(lock.tx, entry)
    return after


async def _use_claim(lock: PersonLock, user: User, role: Role, identity: Identity, now: datetime) -> User:
    source = BY_CLAIM if identity.claimed_role is not None else None
    after = replace(
        user, role=role, role_source=source, role_ends_at=None, role_afterwards=None, version=user.version + 1
    )
    await _write(lock, after)
    details = {
        "roleBefore": user.role_in_force(now), "role": role, "until": None, "reason": "claim",
        "versionBefore": user.version,
    }  # fmt: skip
    actor = f"provider:{identity.provider}"
    entry = AuditEntry(now, actor, PROVIDER, ROLE_CHANGED, None, None, details, target_of(user.id))
    await audit_store.record(lock.tx, entry)
    return after


async def _write(lock: PersonLock, user: User) -> None:
    names = ("role", "role_source", "role_ends_at", "role_afterwards", "version")
    await store.set_values(lock, user.id, **{name: getattr(user, name) for name in names})
