"""How jobs are shown: tables and facts for people, documents like those of the API for scripts."""

from collections.abc import Sequence
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.table import Table

from safevideo_cli.output import facts, minute, sentence
from safevideo_common.jobs.admin import JobDetails
from safevideo_common.jobs.serializers import details_document
from safevideo_common.jobs.store.admin import Job


def job_table(jobs: Sequence[Job]) -> Table:
    """One line a job."""
    names = "id", "type", "status", "priority", "done", "tries", "created (UTC)"
    table = Table(*names, sentence("error"), box=SIMPLE_HEAD)
    for job in jobs:
        fate = job.status, job.priority, f"{job.progress} %", f"{job.tries}/{job.max_tries}"
        table.add_row(str(job.id), job.job_type, *fate, minute(job.created_at), job.error or "")
    return table


def job_facts(details: JobDetails, now: datetime) -> str:
    """One job as YAML, without what it has not; its result and its tries last."""
    document = details_document(details, now)
    result, history = document.pop("result"), document.pop("history")
    return facts(document | {"result": result, "history": history})
