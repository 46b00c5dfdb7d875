"""The plain model: who the people are, what was done with them, and what must be true then. Without I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from safevideo_common.auth.api_keys import Role

ROLES: Final = tuple(Role)
"""From the lowest to the highest."""


class Someone(NamedTuple):
    """A person of the cast, with one account of their own."""

    name: str
    provider: str | None
    """Who signs them in; None for an account that was imported and has no identity yet."""
    role: Role
    performer: bool

    @property
    def word(self) -> str:
        """The word that is planted in whatever is personal."""
        return f"Planted{self.name}"

    @property
    def sharegram_id(self) -> str:
        """The id at Sharegram, which is not personal."""
        return f"sg_{self.name}"


CAST: Final = {
    each.name: each
    for each in (
        Someone("ann", "sharegram", Role.ADMIN, performer=True),
        Someone("ben", "okta", Role.PERFORMER, performer=False),
        Someone("cid", None, Role.PERFORMER, performer=True),
        Someone("dot", "sharegram", Role.MODERATOR, performer=True),
        Someone("eve", None, Role.PERFORMER, performer=False),
        Someone("fay", "sharegram", Role.ADMIN, performer=True),
    )
}
"""`cid` and `eve` were imported: one has an id at Sharegram, the other an e-mail alone. Nothing is done to `fay`."""


@dataclass(slots=True)
class Session:
    """A session that somebody opened, as its token names it."""

    token: str
    opener: str
    account: str
    """The account that the sign-in led to."""
    is_ended: bool = False
    may_be_ended: bool = False


@dataclass(slots=True)
class Order:
    """An erasure order that was accepted."""

    id: int
    people: frozenset[str]
    is_applied: bool = False
    is_started: bool = False


@dataclass(slots=True)
class Model:
    """The cast as it should be."""

    parent: dict[str, str] = field(default_factory=dict)
    own_role: dict[str, Role] = field(default_factory=lambda: {name: each.role for name, each in CAST.items()})
    has_signed_in: set[str] = field(default_factory=lambda: {name for name, each in CAST.items() if each.provider})
    holds: dict[str, set[str]] = field(default_factory=dict)
    """The reasons of active holds by each person that they were placed on."""
    orders: list[Order] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    suspended: set[str] = field(default_factory=set)
    granted: set[str] = field(default_factory=set)
    """People to whom an admin gave a role."""
    erased: set[str] = field(default_factory=set)
    audited: dict[str, int] = field(default_factory=dict)
    """How often an action must be in the audit log."""
    excused: set[str] = field(default_factory=set)
    """People whose documents may have become fewer by the person's own act, or by time."""

    def root(self, name: str) -> str:
        """Return the account that an account is part of."""
        while name in self.parent:
            name = self.parent[name]
        return name

    def group(self, name: str) -> frozenset[str]:
        """Return all who are merged with a person, the person too."""
        root = self.root(name)
        return frozenset(each for each in CAST if self.root(each) == root)

    def role(self, name: str) -> Role:
        """Return the role of the account that a person signs in to: the lowest of all that are merged."""
        return min((self.own_role[each] for each in self.group(name)), key=ROLES.index)

    def is_suspended(self, name: str) -> bool:
        """Return whether the account that a person signs in to is suspended: one of its members is."""
        return bool(self.group(name) & self.suspended)

    def set_role(self, name: str, role: Role) -> None:
        """Give an account a role of its own."""
        if self.own_role[name] is not role or name not in self.granted:
            self.audit("users.role_changed")
        self.own_role[name] = role
        self.granted.add(name)

    def suspend(self, name: str) -> None:
        """Suspend an account. Its sessions end for good."""
        if name not in self.suspended:
            self.audit("users.suspended")
            self.suspended.add(name)
            self.end_sessions(self.root(name))

    def reinstate(self, name: str) -> None:
        """End a suspension."""
        if name in self.suspended:
            self.audit("users.reinstated")
            self.suspended.remove(name)

    def is_held(self, name: str) -> bool:
        """Return whether a hold keeps what there is of a person."""
        return any(self.holds.get(each) for each in self.group(name))

    def has_order(self, name: str) -> bool:
        """Return whether an erasure of the person was ordered."""
        return any(name in each.people for each in self.orders)

    @property
    def being_erased(self) -> frozenset[str]:
        """Return all whose erasure has begun, or ended."""
        return frozenset(who for each in self.orders if each.is_started or each.is_applied for who in each.people)

    def is_open_order(self, people: Iterable[str]) -> bool:
        """Return whether an order of one of them has not ended."""
        chosen = set(people)
        return any(chosen & each.people and not each.is_applied for each in self.orders)

    def audit(self, action: str, entries: int = 1) -> None:
        """Record that an act was done, once: with an entry for each account that it changed."""
        self.audited[action] = self.audited.get(action, 0) + entries

    def merge(self, primary: str, duplicates: Sequence[str]) -> None:
        """Merge accounts."""
        before = {name: self.root(name) for name in CAST}
        for each in duplicates:
            self.parent[each] = primary
        self._sessions_after(before)

    def unmerge(self, duplicate: str) -> None:
        """Take the last merge of an account back."""
        before = {name: self.root(name) for name in CAST}
        del self.parent[duplicate]
        self._sessions_after(before)

    def _sessions_after(self, before: dict[str, str]) -> None:
        changed = {name for name in CAST if before[name] != self.root(name)}
        touched = {before[name] for name in changed} | {self.root(name) for name in changed}
        for each in self.sessions:
            if each.account in touched or self.root(each.opener) in touched:
                each.may_be_ended = True
            if self.root(each.opener) != each.account:
                each.is_ended = True

    def hold(self, name: str, reason: str) -> None:
        """Place a hold on a person, with all who are merged."""
        for each in self.group(name):
            self.holds.setdefault(each, set()).add(reason)

    def release(self, name: str) -> None:
        """Release all holds on a person."""
        for each in self.group(name):
            self.holds.pop(each, None)

    def order(self, order_id: int, name: str) -> None:
        """Order an erasure. A repetition is the same order."""
        if not any(each.id == order_id for each in self.orders):
            self.orders.append(Order(order_id, self.group(name)))
            self.audit("users.erasure_ordered")

    def run_erasures(self, order_ids: Iterable[int] | None = None) -> None:
        """Apply the orders that no hold stops."""
        for each in self.orders:
            if order_ids is not None and each.id not in order_ids:
                continue
            is_held = not each.is_started and any(self.is_held(name) for name in each.people)
            if is_held and not each.is_applied:
                continue
            if each.is_applied:
                self.erased |= each.people  # a restore may have brought them back
                continue
            each.is_applied = True
            self.erased |= each.people
            self.audit("users.erased")
            for session in self.sessions:
                if session.opener in each.people:
                    session.is_ended = True

    def end_sessions(self, account: str) -> None:
        """End all sessions of an account."""
        for each in self.sessions:
            if each.account == account:
                each.is_ended = True
