"""How jobs are shown: tables and facts for people, documents like those of the API for scripts."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import orjson
from rich.box import SIMPLE_HEAD
from rich.table import Table

from safevideo_common.cli.output import minute
from safevideo_common.database.job_browser import Job
from safevideo_common.jobs.administration import JobDetails
from safevideo_common.jobs.documents import details_document


def job_table(jobs: Sequence[Job]) -> Table:
    """One line a job."""
    table = Table("id", "type", "status", "priority", "progress", "tries", "error", "created (UTC)", box=SIMPLE_HEAD)
    for job in jobs:
        fate = job.status, job.priority, f"{job.progress} %", f"{job.tries}/{job.max_tries}", job.error or ""
        table.add_row(str(job.id), job.job_type, *fate, minute(job.created_at))
    return table


def job_facts(details: JobDetails, now: datetime) -> str:
    """One job, a fact a line; then its tries, and its result."""
    document = details_document(details, now)
    result, history = document.pop("result"), document.pop("history")
    assert isinstance(history, list)
    lines = [*_facts(document), *(" ".join(["try", *map(_text, each.values())]) for each in history)]
    if isinstance(result, Mapping):
        lines += ["", *_facts(result)]
    return "\n".join(lines)


def _facts(document: Mapping[str, object]) -> Iterable[str]:
    return (f"{name:<17} {_text(value)}".rstrip() for name, value in document.items())


def _text(value: object) -> str:
    if value is None:
        return ""
    return (
        orjson.dumps(value).decode()
        if isinstance(value, Mapping | Sequence) and not isinstance(value, str)
        else str(value)
    )
