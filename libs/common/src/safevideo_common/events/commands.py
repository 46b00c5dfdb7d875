"""Commands to the workers: `integration.commands.v1`.

A message only wakes the workers. The work itself is a row, which they find without the message.
"""

from datetime import datetime
from typing import Final

import msgspec

from safevideo_common.broker.types import Message
from safevideo_common.events.envelope import Envelope
from safevideo_common.events.topics import COMMANDS

JOB_QUEUED: Final = "integration.job.queued"
SOURCE: Final = "/safevideo/jobs"

_encode: Final = msgspec.json.Encoder().encode


class JobQueued(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A job may run. `runner` is the service that alone may run it; null when any may that knows its type."""

    job_id: int
    job_type: str
    runner: str | None


def job_queued(command: JobQueued, command_id: str, at: datetime, request_id: str | None) -> Message:
    """Return the message, keyed by the job's type. `command_id` is unique: a job that is queued again has another."""
    envelope = Envelope(command_id, JOB_QUEUED, at, None, request_id or "", "", SOURCE)
    return Message(COMMANDS, command.job_type.encode(), _encode(command), envelope.headers())
