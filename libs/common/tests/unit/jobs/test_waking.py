"""Which messages wake an engine."""

import asyncio
from datetime import UTC, datetime

import pytest

from safevideo_common.broker.types import Record
from safevideo_common.events.commands import JobQueued, job_queued
from safevideo_common.events.envelope import parse_headers
from safevideo_common.jobs.notifications import JobListener
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def is_woken_by(*values: bytes) -> bool:
    wake, log = asyncio.Event(), build_logger("test", LogSink(None, stdout=False))
    waiting = JobListener(None, "kyc-worker", frozenset({"known"}), wake, log)  # type: ignore[arg-type] # it reads nothing
    waiting.hear([Record("t", 0, offset, 0, b"known", value, ()) for offset, value in enumerate(values)])
    return wake.is_set()


def told(job_type: str, runner: str | None) -> bytes:
    return job_queued(JobQueued(1, job_type, runner), "job-1-a", NOW, None).value


@pytest.mark.parametrize("runner", [None, "kyc-worker"])
def test_a_job_that_this_worker_may_run_wakes_it(runner: str | None) -> None:
    assert is_woken_by(told("other", None), told("known", runner))


def test_jobs_of_others_and_what_cannot_be_read_do_not_wake_it() -> None:
    assert not is_woken_by(told("other", None), told("known", "sync-worker"), b"{", b"", b'{"jobId": "x"}')


def test_a_message_is_keyed_by_type_and_carries_the_request() -> None:
    message = job_queued(JobQueued(7, "known", None), "job-7-a", NOW, "req-1")
    envelope = parse_headers(message.headers)
    assert (message.topic, message.key) == ("integration.commands.v1", b"known")
    assert (envelope.id, envelope.type, envelope.request_id) == ("job-7-a", "integration.job.queued", "req-1")
