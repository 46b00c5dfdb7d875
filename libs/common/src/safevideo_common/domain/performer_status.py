"""The status of a performer: Sharegram's, and a person's decision that stands above it.

Sharegram's status is a field like the others, ordered by its write version. A decision has its own place: behind every
status that Sharegram had set when it was made. So the visible status depends on two writes of Sharegram only: on the
newest one, and on the newest one that is not later than the decision. Any order of arrival leads to the same status.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from safevideo_common.domain.ordering import WriteVersion


class PerformerStatus(StrEnum):
    """The status of a performer (contract, §5)."""

    PENDING = "pending"
    UNDER_REVIEW = "under_review"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REJECTED = "rejected"


AWAITING_APPROVAL: Final = (PerformerStatus.PENDING, PerformerStatus.UNDER_REVIEW)

TRANSITIONS: Final = MappingProxyType(
    {
        PerformerStatus.PENDING: frozenset(
            {
                PerformerStatus.UNDER_REVIEW,
                PerformerStatus.ACTIVE,
                PerformerStatus.SUSPENDED,
                PerformerStatus.REJECTED,
            }
        ),
        PerformerStatus.UNDER_REVIEW: frozenset(
            {PerformerStatus.PENDING, PerformerStatus.ACTIVE, PerformerStatus.SUSPENDED, PerformerStatus.REJECTED}
        ),
        PerformerStatus.ACTIVE: frozenset(
            {PerformerStatus.UNDER_REVIEW, PerformerStatus.SUSPENDED, PerformerStatus.REJECTED}
        ),
        PerformerStatus.SUSPENDED: frozenset(
            {
                PerformerStatus.UNDER_REVIEW,
                PerformerStatus.ACTIVE,
                PerformerStatus.SUSPENDED,
                PerformerStatus.REJECTED,
            }
        ),
        PerformerStatus.REJECTED: frozenset({PerformerStatus.PENDING, PerformerStatus.UNDER_REVIEW}),
    }
)
"""The changes that a person may make. A suspension may get another end. Sharegram may set any status."""


class StatusDecision(NamedTuple):
    """A status that a person has set. It ends when Sharegram sets a status that is new and says something else."""

    status: str
    at_micros: int
    """Unix microseconds of the decision, by our clock, but not before the last status of Sharegram."""
    basis: str
    """Sharegram's newest status that is not later than the decision. Repeating it says nothing new."""
    basis_version: WriteVersion | None
    """None if Sharegram had set no status."""
    until_micros: int | None = None
    """The end of a suspension; None if it has none."""
    resumes: "StatusDecision | None" = None
    """The decision that stands again when a suspension has ended."""
    decided_by: str = ""
    reason: str | None = None
    notes: str | None = None

    def stands(self, status: object, write_version: WriteVersion | None) -> bool:
        """Return whether the decision stands above Sharegram's newest status."""
        return status == self.basis or write_version is None or write_version.at_micros <= self.at_micros

    def after(self, status: str, write_version: WriteVersion) -> Self:
        """Return the decision after a status of Sharegram has arrived, whether it is late or not."""
        resumes = self.resumes and self.resumes.after(status, write_version)
        decision = self if resumes == self.resumes else self._replace(resumes=resumes)
        is_later = write_version.at_micros > self.at_micros
        if is_later or (self.basis_version is not None and self.basis_version.wins_over(write_version)):
            return decision
        return decision._replace(basis=status, basis_version=write_version)
