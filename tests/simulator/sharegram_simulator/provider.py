"""Sharegram at work: a change at the master and, unless it is silent, the webhooks that follow from it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal
from uuid import uuid4

from sharegram_simulator import announcements
from sharegram_simulator.clock import utc_now
from sharegram_simulator.courier import Courier
from sharegram_simulator.delivery import Delivery
from sharegram_simulator.errors import Invalid
from sharegram_simulator.people import EMPTY_PROFILE, People, Profile
from sharegram_simulator.performers import Performer, Performers
from sharegram_simulator.receiver import Receiver
from sharegram_simulator.verdicts import Verdict
from sharegram_simulator.verifications import Verification, Verifications
from sharegram_simulator.webhooks import Event

PerformerStatus = Literal["pending", "under_review", "active", "suspended", "rejected"]


@dataclass(frozen=True, slots=True)
class PerformerChange:
    """A requested change at the master. An absent part stays as it is; for a new performer it is invented."""

    performer_id: str | None = None
    profile: Profile | None = None
    status: PerformerStatus | None = None
    version: int | None = None
    """The version after the change; the next one when absent."""


class Provider:
    """Changes performers and verifications, and tells the receiver.

    Room in the queue is reserved before anything is changed, so a refused change leaves the master as it was.
    """

    def __init__(
        self,
        performers: Performers,
        verifications: Verifications,
        people: People,
        receiver: Receiver,
        courier: Courier,
    ) -> None:
        self.performers = performers
        self.verifications = verifications
        self._people = people
        self._receiver = receiver
        self._courier = courier

    def invent_performers(self, count: int, *, silent: bool) -> tuple[Sequence[Performer], Sequence[Delivery]]:
        """Create `count` performers. Raises `LimitReached`, `Unavailable`."""
        self.performers.reserve(count)
        self._reserve(count, silent)
        created = [self._created(PerformerChange()) for _ in range(count)]
        return created, self._tell([event for one in created for event in announcements.of_creation(one)], silent)

    def change_performer(self, change: PerformerChange, *, silent: bool) -> tuple[Performer, Sequence[Delivery]]:
        """Create or change one performer. Raises `LimitReached`, `Unavailable`."""
        self._reserve(announcements.LONGEST, silent)
        known = self.performers.find(change.performer_id) if change.performer_id else None
        if known is None:
            performer = self._created(change)
            return performer, self._tell(announcements.of_creation(performer), silent)
        performer = self._changed(known, change)
        return performer, self._tell(announcements.of_change(performer, change.profile, change.status), silent)

    def start_verification(self, performer_id: str) -> Verification:
        """Begin a verification; it stays pending until `finish_verification`. Raises `LimitReached`."""
        verification = _begun(f"ver_{uuid4().hex}", performer_id, utc_now())
        self.verifications.put(verification)
        return verification

    def finish_verification(
        self, verification_id: str, performer_id: str | None, verdict: Verdict, *, silent: bool
    ) -> tuple[Verification, Sequence[Delivery]]:
        """Decide, or decide anew. A verification that is new begins here and needs its performer.

        Raises `Invalid` without one, `LimitReached`, `Unavailable`.
        """
        self._reserve(1, silent)
        now = utc_now()
        pending = self.verifications.find(verification_id) or _begun(verification_id, performer_id, now)
        decided = pending.decided(verdict, now)
        self.verifications.put(decided)
        return decided, self._tell(announcements.of_verdict(decided), silent)

    def _created(self, change: PerformerChange) -> Performer:
        now = utc_now()
        performer = Performer(
            performer_id=change.performer_id or self._people.performer_id(),
            profile=self._people.profile() if change.profile is None else EMPTY_PROFILE | change.profile,
            status=change.status or self._people.status(),
            version=1 if change.version is None else change.version,
            created_at=now,
            updated_at=now,
        )
        self.performers.put(performer)
        return performer

    def _changed(self, known: Performer, change: PerformerChange) -> Performer:
        performer = replace(
            known,
            profile=known.profile | (change.profile or {}),
            status=change.status or known.status,
            version=known.version + 1 if change.version is None else change.version,
            updated_at=utc_now(),
        )
        self.performers.put(performer)
        return performer

    def _reserve(self, count: int, silent: bool) -> None:
        if not silent:
            self._courier.reserve(count)

    def _tell(self, events: Sequence[Event], silent: bool) -> Sequence[Delivery]:
        if silent:
            return []
        return [self._courier.submit(event) for event in events if self._receiver.wants(event.type)]


def _begun(verification_id: str, performer_id: str | None, at: datetime) -> Verification:
    if performer_id is None:
        details = {"performerId": "required for a verification that is new"}
        raise Invalid("There is no such verification.", details=details)
    return Verification(verification_id, performer_id, at, at)
