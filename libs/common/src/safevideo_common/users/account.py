"""The account that a person has: a function of its own values and of those of the accounts that are merged into it.

Nothing of it is stored. So unmerging in any order gives each account what it would have without the merge.

- The role is the lowest of all that are in force: a merge never raises one.
- The profile is the newest one, by `users.updated_at`; values that it lacks are the root's own.
- E-mail and Sharegram id are the root's own, else those of the newest account that has one.
- One suspended account suspends all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from safevideo_common.auth.api_keys import Role
from safevideo_common.users.store import User

PROFILE: Final = ("username", "display_name", "profile_image")
_ROLES: Final = tuple(Role)
_COMPARED: Final = (*PROFILE, "sharegram_id", "email", "is_email_verified", "role")


@dataclass(frozen=True, slots=True)
class Account:
    """The root of a tree of accounts, with what all of them together have."""

    id: int
    email: str | None
    is_email_verified: bool | None
    sharegram_id: str | None
    username: str | None
    display_name: str | None
    profile_image: str | None
    role: Role
    generation: str
    members: Mapping[int, User]
    """All accounts of the tree with their own values, the root too."""

    @property
    def has_identity(self) -> bool:
        """Return whether a provider, or Sharegram's id, leads to one of the accounts."""
        return any(each.has_identity or each.sharegram_id is not None for each in self.members.values())

    @property
    def is_suspended(self) -> bool:
        """Return whether one of the accounts is suspended."""
        return any(each.suspended_at is not None for each in self.members.values())

    @property
    def is_erased(self) -> bool:
        """Return whether the root is erased."""
        return self.members[self.id].erased_at is not None

    @property
    def can_sign_in(self) -> bool:
        """Return whether sessions of this account are valid."""
        return not (self.is_suspended or self.is_erased)


def account_of(root_id: int, members: Sequence[User], now: datetime) -> Account:
    """Return the account with this root. `members` are all accounts of its tree."""
    accounts = {each.id: each for each in members}
    root = accounts[root_id]
    others = sorted(
        (each for each in members if each.id != root_id and each.erased_at is None),
        key=lambda user: (user.updated_at, -user.id),
        reverse=True,
    )
    newest = max([root, *others], key=lambda user: user.updated_at)
    profile = {name: value if (value := getattr(newest, name)) is not None else getattr(root, name) for name in PROFILE}
    of_email = next((each for each in (root, *others) if each.email is not None), root)
    of_sharegram = next((each for each in (root, *others) if each.sharegram_id is not None), root)
    return Account(
        id=root_id,
        email=of_email.email,
        is_email_verified=of_email.is_email_verified,
        sharegram_id=of_sharegram.sharegram_id,
        role=min((each.role_in_force(now) for each in members), key=_ROLES.index),
        generation=root.generation,
        members=accounts,
        **profile,
    )


def changed_fields(before: Account, after: Account) -> list[str]:
    """Return the names of the values that differ, in order."""
    return sorted(name for name in _COMPARED if getattr(before, name) != getattr(after, name))
