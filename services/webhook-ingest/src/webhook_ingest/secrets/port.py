"""The secrets that webhooks may be signed with, as the request's way sees them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from safevideo_common.webhooks.signatures import WebhookSecret


class SecretSource(Protocol):
    """The secrets that count now. Nothing here waits, and nothing fails."""

    def at(self, now: datetime) -> Sequence[WebhookSecret]:
        """Those that are valid at `now`, the newest first."""
        ...

    def note_use(self, secret: WebhookSecret, now: datetime) -> None:
        """A webhook that `secret` signed was let in."""
        ...

    def refresh_soon(self) -> None:
        """There may be a newer set: a signature matched none of these, or somebody said so. May be said at any rate."""
        ...
