"""What a run over the quarantine is asked to do, and what it found and did."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.handlers.verdicts import Verdict
from safevideo_common.errors import LogUnavailable
from safevideo_common.sharegram.webhook_signatures import WebhookSecret


class Asked(NamedTuple):
    """What to do. `given` is a secret to use in place of the present ones, `ids` are rows to look at, None for all."""

    given: WebhookSecret | None
    ids: Collection[int] | None
    dry_run: bool


@dataclass(slots=True)
class Report:
    """What a run found and did."""

    verdicts: dict[str, list[int]] = field(default_factory=dict)
    """Row ids by verdict, in order of reception."""
    released: list[int] = field(default_factory=list)
    is_complete: bool = True
    failure: LogUnavailable | None = None

    @property
    def checked(self) -> int:
        """How many were verified."""
        return sum(map(len, self.verdicts.values()))

    def add(self, verdicts: Sequence[Verdict]) -> None:
        """Sort them in."""
        for verdict in verdicts:
            self.verdicts.setdefault(verdict.reason, []).append(verdict.row_id)

    def facts(self, asked: Asked) -> dict[str, object]:
        """For the audit log: counts and choices."""
        return {
            "dryRun": asked.dry_run,
            "secretGiven": asked.given is not None,
            "idsGiven": asked.ids is not None,
            "verdicts": {reason: len(ids) for reason, ids in self.verdicts.items()},
            "released": len(self.released),
            "complete": self.is_complete and self.failure is None,
        }
