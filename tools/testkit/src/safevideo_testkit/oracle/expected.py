"""A stream of webhooks that knows how it must end.

What each performer's rows have to be at the end is computed here in the plainest way: sort a performer's events as the
provider made them, and let each overwrite what it names. It shares no code with the services.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sharegram_simulator import webhooks
from sharegram_simulator.webhooks import Event

BEGINNING = datetime(2026, 11, 1, tzinfo=UTC)
STATUSES = ("pending", "under_review", "active", "suspended", "rejected")
KYC_STATUS = {"passed": "verified", "review": "in_review", "failed": "rejected"}
COLUMN = {
    "username": "username",
    "displayName": "display_name",
    "email": "email",
    "profileImage": "profile_image",
    "bio": "bio",
    "verified": "verified",
}


@dataclass
class Ledger:
    """`performers` and `verdicts` are what the tables must hold; `sendings` what is sent, in this order."""

    sendings: list[Event]
    performers: dict[str, dict[str, object]]
    verdicts: dict[str, str]
    events: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.events = {str(event.id) for event in self.sendings}

    @property
    def repeats(self) -> int:
        """Deliveries beyond the first of each event."""
        return len(self.sendings) - len(self.events)


def write_ledger(*, performers: int, events: int, seed: int, prefix: str) -> Ledger:
    """`events` webhooks in all for so many performers, shuffled within each, one in ten sent twice.

    Every second performer's events carry versions, the others are ordered by their timestamps alone.
    """
    dice = random.Random(seed)
    stories = [list(_story(dice, f"{prefix}_{number}", events // performers, number)) for number in range(performers)]
    rows = {_subject(story): _fold(story) for story in stories}
    verdicts = {_verification(_subject(story)): verdict for story in stories if (verdict := _last_verdict(story))}
    return Ledger(_sendings(dice, stories), rows, verdicts)


def _story(dice: random.Random, performer_id: str, events: int, number: int) -> Iterator[Event]:
    """A performer's events in the provider's order. One in ten is a patch of a single field, at the least."""
    for step in range(1, events + 1):
        at = BEGINNING + timedelta(seconds=step, milliseconds=number)
        version = step if number % 2 else None
        event_id = f"{performer_id}.{step}"
        kind = dice.random()
        if step == 1:
            yield webhooks.performer_updated(performer_id, profile_of(dice, step), version, at, event_id)
        elif kind < 0.3:
            yield webhooks.status_changed(performer_id, dice.choice(STATUSES), version, at, event_id)
        elif kind < 0.4:
            result = {"status": dice.choice(list(KYC_STATUS)), "riskScore": 90, "checks": {}}
            yield webhooks.verification_finished(_verification(performer_id), performer_id, result, at, event_id)
        elif kind < 0.7:
            name, value = dice.choice(list(profile_of(dice, step).items()))
            yield webhooks.performer_updated(performer_id, {name: value}, version, at, event_id)
        else:
            yield webhooks.performer_updated(performer_id, profile_of(dice, step), version, at, event_id)


def profile_of(dice: random.Random, step: int) -> dict[str, object]:
    """A whole profile, as the wire has it."""
    return {
        "username": f"user-{step}-{dice.randrange(10**6)}",
        "displayName": f"Näme {step} 🎬",
        "email": f"{step}@example.test",
        "profileImage": f"https://img.example.test/{step}.jpg",
        "bio": None if dice.random() < 0.2 else f"bio {step}",
        "verified": dice.random() < 0.5,
    }


def _fold(story: list[Event]) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(COLUMN.values()) | {"verified": False, "status": "pending"}
    for event in story:
        changes = event.data.get("changes")
        if isinstance(changes, dict):
            row |= {COLUMN[name]: value for name, value in changes.items()}
        if event.type == webhooks.STATUS_CHANGED:
            row["status"] = event.data["status"]
    return row


def _last_verdict(story: list[Event]) -> str | None:
    verdicts = [event.data["result"] for event in story if "result" in event.data]
    last = verdicts[-1] if verdicts else None
    return KYC_STATUS[str(last["status"])] if isinstance(last, dict) else None


def _sendings(dice: random.Random, stories: list[list[Event]]) -> list[Event]:
    sendings = []
    for story in stories:
        shuffled = dice.sample(story, len(story))
        sendings += shuffled + dice.sample(story, len(story) // 10)
    dice.shuffle(sendings)
    return sendings


def _subject(story: list[Event]) -> str:
    return str(story[0].subject)


def _verification(performer_id: str) -> str:
    return f"ver-{performer_id}"
