"""The master of identity verifications: in memory and bounded. It sends nothing; `provider.py` does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sharegram_simulator.clock import rfc3339
from sharegram_simulator.errors import LimitReached, NotFound
from sharegram_simulator.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class Verification:
    """A verification; it is pending as long as it has no verdict."""

    verification_id: str
    performer_id: str
    created_at: datetime
    updated_at: datetime
    verdict: Verdict | None = None

    @property
    def status(self) -> str:
        """`pending`, `completed` or `failed`, as in the names of the events."""
        if self.verdict is None:
            return "pending"
        return "failed" if self.verdict.status == "failed" else "completed"

    def decided(self, verdict: Verdict, at: datetime) -> "Verification":
        """The same verification with a verdict, its first or a correction."""
        return replace(self, verdict=verdict, updated_at=at)

    def as_json(self) -> dict[str, object]:
        """Return the JSON that the API and the state show."""
        return {
            "verificationId": self.verification_id,
            "performerId": self.performer_id,
            "status": self.status,
            "result": None if self.verdict is None else self.verdict.as_json(),
            "createdAt": rfc3339(self.created_at),
            "updatedAt": rfc3339(self.updated_at),
        }


class Verifications:
    """All verifications, by id."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_id: dict[str, Verification] = {}

    def find(self, verification_id: str) -> Verification | None:
        """The verification, if there is one of this id."""
        return self._by_id.get(verification_id)

    def get(self, verification_id: str) -> Verification:
        """The verification. Raises `NotFound`."""
        found = self._by_id.get(verification_id)
        if found is None:
            raise NotFound("There is no such verification.")
        return found

    def put(self, verification: Verification) -> None:
        """Create or replace. Raises `LimitReached`."""
        if verification.verification_id not in self._by_id and len(self._by_id) >= self._limit:
            raise LimitReached(f"The simulator keeps at most {self._limit} verifications.")
        self._by_id[verification.verification_id] = verification

    def newest_verdict(self, performer_id: str) -> Verdict | None:
        """Return the newest result of the performer."""
        decided = [found for found in self._by_id.values() if found.performer_id == performer_id and found.verdict]
        return max(decided, key=lambda found: found.updated_at).verdict if decided else None

    def all(self) -> Sequence[Verification]:
        """Every verification, oldest first."""
        return list(self._by_id.values())
