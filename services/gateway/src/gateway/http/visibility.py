"""The members of an answer that a role sees. Every answer with an e-mail or a person's decision asks here."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.http.endpoint import MODERATORS
from safevideo_common.auth.api_keys import Role

_OF_REVIEWERS: Final = frozenset({"email", "decision"})
"""The members of a performer: the address, and who decided, why and with which notes."""


def is_reviewer(role: Role) -> bool:
    """Return whether a role sees e-mail addresses, and what people wrote when they decided."""
    return role in MODERATORS


def visible_members(role: Role, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a performer's document that a role sees."""
    hidden = frozenset() if is_reviewer(role) else _OF_REVIEWERS
    return {name: value for name, value in document.items() if name not in hidden}
