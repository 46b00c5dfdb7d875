"""Asking for a replay: the job that does it."""

from typing import Final

from safevideo_common.database.audit_log import Caller
from safevideo_common.database.job_browser import Job
from safevideo_common.database.jobs import NewJob
from safevideo_common.errors import ValidationFailed
from safevideo_common.jobs.administration import JobAdministration
from safevideo_common.messaging.replay.parameters import JOB_TYPE, ReplayParameters

ASKED: Final = "replays.asked"


async def ask_for_replay(administration: JobAdministration, asked: ReplayParameters, caller: Caller) -> Job:
    """Queue it for its target. Raises `ValidationFailed`, whose details have an entry for each field that is wrong."""
    if faults := asked.faults():
        raise ValidationFailed("Some fields of the replay are wrong.", details=faults)
    job = NewJob(JOB_TYPE, asked.document(), runner=asked.target, created_by=caller.name, request_id=caller.request_id)
    return await administration.ask(job, ASKED, caller)
