"""The webhooks that follow from a change at the master."""

from collections.abc import Sequence
from typing import Final

from sharegram_simulator.people import Profile
from sharegram_simulator.performers import Performer
from sharegram_simulator.verifications import Verification
from sharegram_simulator.webhooks import (
    Event,
    performer_created,
    performer_updated,
    status_changed,
    verification_finished,
)

LONGEST: Final = 2
"""Webhooks that one change can cause."""


def of_creation(performer: Performer) -> Sequence[Event]:
    """The whole performer at once."""
    event = performer_created(
        performer.performer_id, performer.profile, performer.status, performer.version, performer.updated_at
    )
    return [event]


def of_change(performer: Performer, profile: Profile | None, status: str | None) -> Sequence[Event]:
    """A patch of what was given. Profile and status go separately with one version: two views of one change."""
    performer_id, version, at = performer.performer_id, performer.version, performer.updated_at
    patch = [performer_updated(performer_id, profile, version, at)] if profile else []
    moved = [status_changed(performer_id, status, version, at)] if status else []
    return [*patch, *moved]


def of_verdict(verification: Verification) -> Sequence[Event]:
    """The verdict, the first one or a correction; nothing while there is none."""
    if verification.verdict is None:
        return []
    result, at = verification.verdict.as_json(), verification.updated_at
    return [verification_finished(verification.verification_id, verification.performer_id, result, at)]
