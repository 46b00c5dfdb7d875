"""Announcements of jobs: a log that is away costs them, and nothing else."""

import asyncio
from dataclasses import fields
from datetime import UTC, datetime

from safevideo_common.broker.types import Message, TopicPartition
from safevideo_common.errors import BrokerUnavailable
from safevideo_common.events.envelope import parse_headers
from safevideo_common.jobs.notifications import MAX_PENDING, JobNotifier
from safevideo_common.jobs.store.admin import Job
from safevideo_testkit.eventually import eventually, running_task

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Log:
    """A publisher that fails or waits as it is told."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.failures = 0
        self.tried: list[Message] = []

    async def publish(self, message: Message) -> tuple[TopicPartition, int]:
        await self.answers.wait()
        self.tried.append(message)
        if len(self.tried) <= self.failures:
            raise BrokerUnavailable("away")
        return TopicPartition(message.topic, 0), 0

    async def has_had(self, count: int) -> bool:
        return len(self.tried) == count


def job(number: int) -> Job:
    columns = dict.fromkeys((field.name for field in fields(Job)), None)
    return Job(**columns | {"id": number, "job_type": "known", "request_id": "req-1"})  # type: ignore[arg-type]


async def test_one_that_fails_is_dropped_and_the_next_goes_out() -> None:
    log = Log()
    log.answers.set()
    log.failures = 1
    announcer = JobNotifier(log, lambda: NOW)
    async with running_task(announcer.run()):
        announcer.tell(job(1))
        announcer.tell(job(2))
        await eventually(lambda: log.has_had(2))
    envelope = parse_headers(log.tried[-1].headers)
    assert (log.tried[-1].topic, envelope.request_id) == ("integration.commands.v1", "req-1")


async def test_while_the_log_does_not_answer_so_many_wait_and_more_are_dropped() -> None:
    log = Log()
    announcer = JobNotifier(log, lambda: NOW)
    for number in range(2 * MAX_PENDING):
        announcer.tell(job(number))
    log.answers.set()
    async with running_task(announcer.run()):
        await eventually(lambda: log.has_had(MAX_PENDING))
