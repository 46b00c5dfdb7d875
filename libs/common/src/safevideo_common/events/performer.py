"""Performer webhooks: `sharegram.performer.v1`. The shapes are those of the contract, §7."""

from typing import Annotated, Final, Literal

import msgspec

from safevideo_common.events.envelope import ExternalId, Version

PROFILE_UPDATED: Final = "performer.profile.updated"
STATUS_CHANGED: Final = "performer.status.changed"
TYPES: Final = (PROFILE_UPDATED, STATUS_CHANGED)

Status = Literal["pending", "under_review", "active", "suspended", "rejected"]
ShortText = Annotated[str, msgspec.Meta(max_length=255)]
LongText = Annotated[str, msgspec.Meta(max_length=10_000)]
Url = Annotated[str, msgspec.Meta(max_length=2048)]


class Profile(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A patch: a field that is absent (`UNSET`) is left alone, one that is null is cleared."""

    username: ShortText | msgspec.UnsetType | None = msgspec.UNSET
    display_name: ShortText | msgspec.UnsetType | None = msgspec.UNSET
    email: ShortText | msgspec.UnsetType | None = msgspec.UNSET
    profile_image: Url | msgspec.UnsetType | None = msgspec.UNSET
    bio: LongText | msgspec.UnsetType | None = msgspec.UNSET
    verified: bool | msgspec.UnsetType = msgspec.UNSET


class PerformerData(msgspec.Struct, frozen=True, rename="camel"):
    """`data` of both performer events. `profile` and `changes` are patches; `changes` wins where both name a field."""

    performer_id: ExternalId
    profile: Profile | None = None
    changes: Profile | None = None
    status: Status | None = None
    version: Version | None = None
