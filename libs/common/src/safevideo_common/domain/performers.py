"""A performer as mirrored here. Sharegram is the master; this side follows its events in its order."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from safevideo_common.domain.ordering import WriteVersion, winning_fields
from safevideo_common.domain.outcomes import APPLIED, STALE, Outcome

FIELDS: Final = ("username", "display_name", "email", "profile_image", "bio", "verified", "status")
"""What Sharegram is the master of. Each keeps an order of its own, `status` included."""

DEFAULTS: Final[Mapping[str, object]] = MappingProxyType({"verified": False, "status": "pending"})


class Performer(NamedTuple):
    """The mirrored state: what each field is, and which write of Sharegram's it came from."""

    sharegram_id: str
    fields: Mapping[str, object] = DEFAULTS
    stamps: Mapping[str, WriteVersion] = MappingProxyType({})


class PerformerPatch(NamedTuple):
    """One event about a performer: the fields that it names, and its place in Sharegram's order."""

    fields: Mapping[str, object]
    stamp: WriteVersion


def decide(performer: Performer, patch: PerformerPatch) -> tuple[Performer, Outcome]:
    """The performer after `patch`, and what became of it.

    `stale` when the patch names fields and newer writes own all of them. Applying the same patch again changes nothing.
    """
    won = winning_fields(patch.fields, patch.stamp, performer.stamps)
    if patch.fields and not won:
        return performer, STALE
    after = Performer(
        performer.sharegram_id,
        {**performer.fields, **won},
        {**performer.stamps, **dict.fromkeys(won, patch.stamp)},
    )
    return after, APPLIED


def fields_won(after: Performer, patch: PerformerPatch) -> dict[str, object]:
    """The part of a patch that `decide` has just applied to get `after`: only those fields carry the patch's stamp."""
    return {name: value for name, value in patch.fields.items() if after.stamps[name] is patch.stamp}
