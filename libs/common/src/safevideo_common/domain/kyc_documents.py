"""The documents of a KYC request: which there are, and which the provider must have."""

from collections.abc import Collection
from enum import StrEnum
from typing import Final, NamedTuple

MAX_DOCUMENT_BYTES: Final = 10 << 20
"""Bytes of a document, as it is uploaded and as it is stored."""


class Side(StrEnum):
    """The side of a document."""

    FRONT = "front"
    BACK = "back"


class Slot(StrEnum):
    """The place of a document in a request. A later upload for a slot replaces the earlier one."""

    ID_FRONT = "id_front"
    ID_BACK = "id_back"
    SELFIE = "selfie"
    PROOF_OF_ADDRESS = "proof_of_address"

    @property
    def field(self) -> str:
        """Return the name of the form field, such as `idFront`."""
        first, *others = self.value.split("_")
        return first + "".join(each.capitalize() for each in others)


class DocumentType(StrEnum):
    """The type of a document, as the performer names it."""

    PASSPORT = "passport"
    NATIONAL_ID = "national_id"
    DRIVERS_LICENSE = "drivers_license"
    RESIDENCE_PERMIT = "residence_permit"
    SELFIE = "selfie"
    PROOF_OF_ADDRESS = "proof_of_address"


class _Rule(NamedTuple):
    document_type: DocumentType
    side: Side
    slot: Slot


IDENTITY_TYPES: Final = (
    DocumentType.PASSPORT,
    DocumentType.NATIONAL_ID,
    DocumentType.DRIVERS_LICENSE,
    DocumentType.RESIDENCE_PERMIT,
)
"""The types that a request can name as its identity document."""

_RULES: Final = (
    *(_Rule(each, Side.FRONT, Slot.ID_FRONT) for each in IDENTITY_TYPES),
    *(_Rule(each, Side.BACK, Slot.ID_BACK) for each in IDENTITY_TYPES),
    _Rule(DocumentType.SELFIE, Side.FRONT, Slot.SELFIE),
    _Rule(DocumentType.PROOF_OF_ADDRESS, Side.FRONT, Slot.PROOF_OF_ADDRESS),
)
_SLOTS: Final = {(rule.document_type, rule.side): rule.slot for rule in _RULES}

REQUIRED: Final = frozenset({Slot.ID_FRONT, Slot.SELFIE, Slot.PROOF_OF_ADDRESS})
"""With the last of these the verification begins (contract, §4)."""


def slot_of(document_type: DocumentType, side: Side) -> Slot | None:
    """Return the slot of a document, or None for a side that its type does not have."""
    return _SLOTS.get((document_type, side))


def is_complete(slots: Collection[Slot]) -> bool:
    """Return whether every required document is there."""
    return set(slots) >= REQUIRED
