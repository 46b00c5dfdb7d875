"""A performer as mirrored here. Sharegram is the master; this side follows its events in its order."""

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple

from safevideo_common.domain.ordering import WriteVersion, fields_won
from safevideo_common.domain.outcomes import FieldOutcome, Outcome, applied, stale
from safevideo_common.domain.performer_status import PerformerStatus, StatusDecision

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
    decision: StatusDecision | None = None
    """The last decision of a person about the status. `fields` keep Sharegram's."""

    @property
    def status(self) -> object:
        """Return the status that others see: the decision's while it stands, else Sharegram's."""
        status = self.fields.get("status")
        if self.decision is None or not self.decision.stands(status, self.write_versions.get("status")):
            return status
        return self.decision.status

    @property
    def visible_fields(self) -> Mapping[str, object]:
        """Return the fields as others see them."""
        return self.fields if self.decision is None else {**self.fields, "status": self.status}


class PerformerPatch(NamedTuple):
    """An event about a performer: the fields that it sets, and its position in Sharegram's order."""

    fields: Mapping[str, object]
    write_version: WriteVersion


def decide(performer: Performer, patch: PerformerPatch) -> tuple[Performer, Outcome]:
    """Return the performer after `patch`, and the outcome of the event.

    The outcome is `stale` when newer writes own every field of the patch, and no other status is visible afterwards.
    The same patch again changes nothing.
    """
    before, decision = performer, _decision_after(performer, patch)
    if decision is not performer.decision:
        performer = performer._replace(decision=decision)
    won = fields_won(patch.fields, patch.write_version, performer.write_versions)
    fields = FieldOutcome(patch.write_version.version, tuple([PUBLIC_NAMES[name] for name in won]))
    if len(won) < len(patch.fields):
        overtaken = {PUBLIC_NAMES[name]: performer.write_versions[name] for name in patch.fields if name not in won}
        fields = fields._replace(overtaken=overtaken)
        if not won:
            is_visible = performer is not before and performer.status != before.status
            return performer, applied(fields) if is_visible else stale(fields)
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
    return performer._replace(
        fields=fields, write_versions=versions, deleted_at=None, decision=_decision_after(performer, record)
    )


def decide_status(performer: Performer, decision: StatusDecision) -> Performer:
    """Return the performer after a person's decision. The caller has checked that it may be made.

    It stands behind every status that Sharegram has set, whatever the clocks say. The end of a suspension brings back
    the decision before it.
    """
    last, earlier = performer.write_versions.get("status"), performer.decision
    if earlier is not None and earlier.status == PerformerStatus.SUSPENDED:
        earlier = earlier.resumes
    complete = decision._replace(
        at_micros=max(decision.at_micros, last.at_micros if last else 0),
        basis=str(performer.fields.get("status")),
        basis_version=last,
        resumes=earlier if decision.status == PerformerStatus.SUSPENDED else None,
    )
    return performer._replace(decision=complete)


def end_suspension(performer: Performer, now_micros: int) -> Performer:
    """Return the performer without its suspension if that ends at or before `now_micros`."""
    decision = performer.decision
    if decision is None or decision.until_micros is None or decision.until_micros > now_micros:
        return performer
    return performer._replace(decision=decision.resumes)


def changed_fields(before: Performer, after: Performer) -> dict[str, object]:
    """Return the fields whose visible values differ, with the values of `after`."""
    earlier = before.visible_fields
    return {name: value for name, value in after.visible_fields.items() if earlier.get(name) != value}


def applied_fields(before: Performer, after: Performer, patch: PerformerPatch) -> dict[str, object]:
    """Return the fields of `patch` that `decide` has just applied, as others see them: those with the patch's version.

    A late status that lost may still end what stood above it: then `status` is among them.
    """
    visible = after.visible_fields
    return {
        name: visible[name]
        for name in patch.fields
        if after.write_versions[name] is patch.write_version or (name == "status" and before.status != after.status)
    }


def _decision_after(performer: Performer, patch: PerformerPatch) -> StatusDecision | None:
    decision = performer.decision
    if decision is None or "status" not in patch.fields:
        return decision
    after = decision.after(str(patch.fields["status"]), patch.write_version)
    return decision if after == decision else after
