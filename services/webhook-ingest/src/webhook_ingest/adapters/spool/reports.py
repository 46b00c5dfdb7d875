"""What operators hear of the spool: its metrics, and lines in the log where something changes, not for each event."""

import errno
import time
from typing import Final

from safevideo_common.observability.logs import FilteringBoundLogger
from webhook_ingest.adapters.spool.adopting import Claimed
from webhook_ingest.adapters.spool.metrics import SpoolMetrics
from webhook_ingest.adapters.spool.taking import Lost, Placed

QUIET_SECONDS: Final = 10.0
"""A disk that is nearly full takes one event and refuses the next, many times a second: that is one trouble."""


class Reports:
    """For one spool."""

    def __init__(self, log: FilteringBoundLogger, metrics: SpoolMetrics) -> None:
        self._log = log
        self._metrics = metrics
        self._trouble: str | None = None
        self._trouble_at = 0.0

    def written(self, events: int) -> None:
        """They are on disk; when none was refused for a while, the disk is well."""
        self._metrics.spooled(events)
        if self._trouble and time.monotonic() - self._trouble_at > QUIET_SECONDS:
            self._trouble = None
            self._log.info("The spool takes events again")

    def refused(self, events: int, reason: str) -> None:
        """They could not be taken: one line for each new reason, until one is taken again."""
        self._metrics.refused(events)
        self.unusable(reason)

    def unusable(self, reason: str) -> None:
        """Events could not be taken now."""
        self._trouble_at = time.monotonic()
        if reason != self._trouble:
            self._trouble = reason
            self._log.error("The spool takes no events", code="SPOOL_UNAVAILABLE", reason=reason)

    def delivered(self, events: int) -> None:
        """The log has them."""
        self._metrics.drained(events)

    def claimed(self, claimed: Claimed) -> None:
        """What was found of dead processes, and what was tidied up."""
        if claimed.folders:
            self._log.warning("Spool of a dead process adopted", code="SPOOL_ADOPTED", folders=claimed.folders)
        for path in claimed.unusable:
            self._log.error("Spool of a dead process cannot be opened", code="SPOOL_UNAVAILABLE", path=str(path))
        if claimed.dropped.files:
            self._metrics.dropped(claimed.dropped.files)
            self._log.warning(
                "Oldest files that were set aside removed",
                code="SPOOL_SET_ASIDE_DROPPED", files=claimed.dropped.files, bytes=claimed.dropped.bytes,
            )  # fmt: skip

    def adopted(self, events: int) -> None:
        """They are ours now."""
        self._metrics.adopted(events)

    def lost(self, lost: Lost) -> None:
        """Bytes that are no event. Damage has been copied to the `corrupt` folder, or its whole file goes there."""
        where = {"path": str(lost.path), "start": lost.start, "bytes": lost.size}
        if lost.is_damage:
            self._metrics.set_aside()
            self._log.error("Spool damaged, bytes set aside", code="SPOOL_CORRUPT", **where)
        else:
            self._log.warning("Spool cut short by a crash, torn record dropped", code="SPOOL_TORN", **where)

    def undeliverable(self, placed: Placed) -> None:
        """The log will never take this event; it was copied to the `corrupt` folder."""
        self._metrics.set_aside()
        self._log.error(
            "Spooled event set aside, the log refuses it",
            code="SPOOL_UNDELIVERABLE",
            path=str(placed.segment.path),
            start=placed.start,
        )


def reason_of(error: BaseException) -> str:
    """`ENOSPC` rather than a text that differs between systems; the kind of the error where it has no number."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno, str(error.errno))
    return type(error).__name__
