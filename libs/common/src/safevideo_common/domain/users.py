"""The choice of an account for an identity of a provider, when nothing but the e-mail says so (contract, §3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER: Final = str.maketrans(_UPPER, _UPPER.lower())


class MappingFailure(Enum):
    """The reason why no account is chosen."""

    NO_ACCOUNT = "no_account"
    """No account has this e-mail: make one."""
    CONFLICT = "conflict"
    """An account has this e-mail and may not be linked: an operator decides."""


@dataclass(frozen=True, slots=True)
class EmailClaim:
    """The e-mail of an identity, and how far it can be believed."""

    address: str
    is_verified: bool
    """The provider says so, by the JSON value `true`."""
    may_link: bool
    """The provider is one whose word counts (setting)."""


@dataclass(frozen=True, slots=True)
class EmailCandidate:
    """An account that a database found by this e-mail. Its comparison may be coarser than ours."""

    user_id: int
    email: str
    is_email_verified: bool | None
    has_identity: bool
    is_privileged: bool
    """True for moderators and above."""


def ascii_lower(email: str) -> str:
    """Return `email` with A to Z in lower case. Other letters stay: two of them may look the same."""
    return email.translate(_LOWER)


def choose_by_email(claim: EmailClaim | None, candidates: Sequence[EmailCandidate]) -> int | MappingFailure:
    """Return the account to link, or why there is none.

    An account is linked only if it is the one with this e-mail, and has no identity, no role above performer, and no
    e-mail that is known to be unverified. The claim must be verified, and of a provider that may link.
    """
    same = [each for each in candidates if claim and ascii_lower(each.email) == ascii_lower(claim.address)]
    if claim is None or not same:
        return MappingFailure.NO_ACCOUNT
    candidate = same[0]
    is_open = not (candidate.has_identity or candidate.is_privileged or candidate.is_email_verified is False)
    is_proven = claim.is_verified and claim.may_link
    return candidate.user_id if len(same) == 1 and is_open and is_proven else MappingFailure.CONFLICT
