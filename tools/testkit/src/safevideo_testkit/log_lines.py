"""The lines of a log folder, and whether each one about a job or an event says what it is about."""

import re
from pathlib import Path
from typing import Final

from safevideo_common.observability.logs import FilteringBoundLogger

NEEDED: Final = {
    "job_id": {"job_type", "request_id"},
    "event_id": {"event_type", "performer_id", "request_id"},
    "kyc_request": {"performer_id", "request_id"},
}
"""A line with the key of the left has those of the right too."""
OF_ONE_PERFORMER: Final = {"kyc_verification"}
"""Types of jobs that each have one performer."""
OF_INGEST: Final = {"type": "event_type", "performer": "performer_id"}
"""The keys of webhook-ingest, in the line about each webhook, by those of the workers."""
_KEY: Final = re.compile(r" ([a-z_]+)=")


def app_lines(logger: FilteringBoundLogger, logs: Path) -> list[str]:
    """Return the lines of `app.log`, also those that were gathered and not written yet."""
    logger.error("The test looks", code="LOOK")  # an ERROR is written at once, with what was gathered before
    return [line for line in (logs / "app.log").read_text().splitlines() if " LOOK " not in line]


def without_context(lines: list[str]) -> list[str]:
    """Return the lines of workers about a job, an event or a KYC request that do not name all of it.

    The lines about what a person did name the actor, and are not among them.
    """
    return [line for line in lines if " actor=" not in line and not _has_context(line)]


def _has_context(line: str) -> bool:
    keys = {OF_INGEST.get(key, key) for key in _KEY.findall(line)}
    needed = {each for key, others in NEEDED.items() if key in keys for each in others}
    if any(f" job_type={each}" in line for each in OF_ONE_PERFORMER):
        needed.add("performer_id")
    return needed <= keys
