"""The wake-up of workers: messages that wake a listener, and a notifier during outages."""

import asyncio
from dataclasses import fields
from datetime import UTC, datetime

import pytest

from safevideo_common.broker.types import Message, Record, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.events.commands import JobQueued, job_queued
from safevideo_common.events.envelope import parse_headers
from safevideo_common.jobs.model import Job
from safevideo_common.jobs.notifications import MAX_PENDING, JobListener, JobNotifier
from safevideo_common.observability.log_sink import LogSink
from safevideo_common.observability.logs import build_logger
from safevideo_testkit.eventually import eventually, running_task

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class FakeProducer:
    """A producer that waits for `is_available`, and fails the first `failures` messages."""

    def __init__(self, failures: int = 0) -> None:
        self.is_available = asyncio.Event()
        self.failures = failures
        self.attempts: list[Message] = []

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        await self.is_available.wait()
        self.attempts.append(message)
        if len(self.attempts) <= self.failures:
            raise BrokerUnavailable("unavailable")
        return TopicPartition(message.topic, 0), 0

    async def has_had(self, count: int) -> bool:
        return len(self.attempts) == count


def job(number: int) -> Job:
    columns = dict.fromkeys((field.name for field in fields(Job)), None)
    return Job(**columns | {"id": number, "job_type": "known", "request_id": "req-1"})  # type: ignore[arg-type]


async def test_notifier_drops_a_failed_notification_and_publishes_the_next() -> None:
    producer = FakeProducer(failures=1)
    producer.is_available.set()
    notifier = JobNotifier(producer, lambda: NOW)
    async with running_task(notifier.run()):
        notifier.notify(job(1))
        notifier.notify(job(2))
        await eventually(lambda: producer.has_had(2))
    envelope = parse_headers(producer.attempts[-1].headers)
    assert (producer.attempts[-1].topic, envelope.request_id) == ("integration.commands.v1", "req-1")


async def test_notifier_keeps_a_bounded_number_of_notifications_during_an_outage() -> None:
    producer = FakeProducer()
    notifier = JobNotifier(producer, lambda: NOW)
    for number in range(2 * MAX_PENDING):
        notifier.notify(job(number))
    producer.is_available.set()
    async with running_task(notifier.run()):
        await eventually(lambda: producer.has_had(MAX_PENDING))


def wakes(*values: bytes) -> bool:
    wakeup, logger = asyncio.Event(), build_logger("test", LogSink(None, stdout=False))
    listener = JobListener(None, "kyc-worker", frozenset({"known"}), wakeup, logger)  # type: ignore[arg-type] # no broker
    listener.handle([Record("t", 0, offset, 0, b"known", value, ()) for offset, value in enumerate(values)])
    return wakeup.is_set()


def queued(job_type: str, runner: str | None) -> bytes:
    return job_queued(JobQueued(1, job_type, runner), "job-1-a", NOW, None).value


@pytest.mark.parametrize("runner", [None, "kyc-worker"])
def test_listener_wakes_the_worker_for_a_job_that_it_may_run(runner: str | None) -> None:
    assert wakes(queued("other", None), queued("known", runner))


def test_listener_ignores_jobs_of_others_and_unreadable_messages() -> None:
    assert not wakes(queued("other", None), queued("known", "sync-worker"), b"{", b"", b'{"jobId": "x"}')


def test_job_queued_message_is_keyed_by_type_and_carries_the_request() -> None:
    message = job_queued(JobQueued(7, "known", None), "job-7-a", NOW, "req-1")
    envelope = parse_headers(message.headers)
    assert (message.topic, message.key) == ("integration.commands.v1", b"known")
    assert (envelope.id, envelope.type, envelope.request_id) == ("job-7-a", "integration.job.queued", "req-1")
