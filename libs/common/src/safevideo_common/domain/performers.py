"""A performer as mirrored here. Sharegram is the master; this side follows its events in its order."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple

from safevideo_common.domain.ordering import WriteVersion, fields_won
from safevideo_common.domain.outcomes import FieldOutcome, Outcome, applied, stale

FIELDS: Final = ("username", "display_name", "email", "profile_image", "bio", "verified", "status")
"""The fields that Sharegram owns. Each field is ordered by itself, `status` included."""

PUBLIC_NAMES: Final = {name: name for name in FIELDS} | {"display_name": "displayName", "profile_image": "profileImage"}
"""The names of `FIELDS` in webhooks, in change events and in the API."""

DEFAULTS: Final[Mapping[str, object]] = MappingProxyType({"verified": False, "status": "pending"})


class Performer(NamedTuple):
    """The mirrored state: the value of each field, and the version of its last write."""

    sharegram_id: str
    fields: Mapping[str, object] = DEFAULTS
    write_versions: Mapping[str, WriteVersion] = MappingProxyType({})
    deleted_at: datetime | None = None
    """The time at which a complete scan found that Sharegram has it no more. Events do not change it."""


class PerformerPatch(NamedTuple):
    """An event about a performer: the fields that it sets, and its position in Sharegram's order."""

    fields: Mapping[str, object]
    write_version: WriteVersion


def decide(performer: Performer, patch: PerformerPatch) -> tuple[Performer, Outcome]:
    """Return the performer after `patch`, and the outcome of the event.

    The outcome is `stale` when newer writes own every field of the patch. The same patch again changes nothing.
    """
    won = fields_won(patch.fields, patch.write_version, performer.write_versions)
    fields = FieldOutcome(patch.write_version.version, tuple([PUBLIC_NAMES[name] for name in won]))
    if len(won) < len(patch.fields):
        overtaken = {PUBLIC_NAMES[name]: performer.write_versions[name] for name in patch.fields if name not in won}
        fields = fields._replace(overtaken=overtaken)
        if not won:
            return performer, stale(fields)
    after = performer._replace(
        fields={**performer.fields, **won},
        write_versions={**performer.write_versions, **dict.fromkeys(won, patch.write_version)},
    )
    return after, applied(fields)


def take_record(performer: Performer, record: PerformerPatch) -> Performer:
    """Return the performer after the master's own record of it, which names every field.

    A field keeps the value of a newer event. With equal versions the record wins, so that a damaged value is restored,
    and the field keeps its write version. A record of a deleted performer shows that the master has it again.
    """
    fields, versions = dict(performer.fields), dict(performer.write_versions)
    for name, value in record.fields.items():
        last = versions.get(name)
        if last is not None and last.wins_over(record.write_version._replace(arrival=last.arrival)):
            continue
        fields[name] = value
        if last is None or record.write_version._replace(arrival=last.arrival).wins_over(last):
            versions[name] = record.write_version
    return performer._replace(fields=fields, write_versions=versions, deleted_at=None)


def changed_fields(before: Performer, after: Performer) -> dict[str, object]:
    """Return the fields whose values differ, with the values of `after`."""
    return {name: value for name, value in after.fields.items() if before.fields.get(name) != value}


def applied_fields(after: Performer, patch: PerformerPatch) -> dict[str, object]:
    """Return the fields of `patch` that `decide` has just applied to get `after`: those with the patch's version."""
    return {name: value for name, value in patch.fields.items() if after.write_versions[name] is patch.write_version}
