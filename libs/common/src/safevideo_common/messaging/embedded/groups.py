"""Who reads for a consumer group."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """One subscription of a group."""

    topics: tuple[str, ...]


class Groups:
    """The members of every group. A topic belongs to the one that came first, until it leaves; then to the next.

    All members live in one process, so sharing a topic out among them would gain nothing.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._members: defaultdict[str, list[Member]] = defaultdict(list)
        self._on_change = on_change

    @contextmanager
    def joined(self, group: str, topics: Sequence[str]) -> Iterator[Member]:
        """Be a member for as long as the context lasts."""
        member = Member(tuple(topics))
        members = self._members[group]
        members.append(member)
        try:
            yield member
        finally:
            members.remove(member)
            self._on_change()

    def topics_of(self, group: str, member: Member) -> list[str]:
        """The topics that this member owns at this moment."""
        members = self._members[group]
        return [
            topic for topic in member.topics if next((m for m in members if topic in m.topics), None) is member
        ]
