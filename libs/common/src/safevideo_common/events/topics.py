"""The topics of the contract, §8, and the one place that says which event type goes where."""

from typing import Final

from safevideo_common.events import kyc, performer

KYC: Final = "sharegram.kyc.v1"
PERFORMER: Final = "sharegram.performer.v1"
OTHER: Final = "sharegram.other.v1"
COMMANDS: Final = "integration.commands.v1"
CHANGES: Final = "integration.events.v1"

PARTITIONS: Final = 12
RETENTION_DAYS: Final = {KYC: 30, PERFORMER: 30, OTHER: 30, COMMANDS: 7, CHANGES: 7}
"""What Sharegram sent is kept for 30 days, since replay reads it."""

TOPIC_BY_TYPE: Final = dict.fromkeys(kyc.TYPES, KYC) | dict.fromkeys(performer.TYPES, PERFORMER)
"""A new webhook type goes here, by way of its module's TYPES. What is not listed goes to `OTHER`."""


def topic_of(event_type: str) -> str:
    """The topic that events of this type are kept in."""
    return TOPIC_BY_TYPE.get(event_type, OTHER)
