"""A job that is asked for through the API reaches its worker at once, though no outbox relay runs."""

from collections.abc import Awaitable, Callable

import msgspec
import orjson
import pytest
from sqlalchemy import update

from safevideo_common.broker.port import Broker
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import batch_jobs
from safevideo_common.events.commands import JobQueued
from safevideo_common.events.topics import COMMANDS, all_topics
from safevideo_common.jobs.model import JobStatus
from safevideo_common.replay.request import JOB_TYPE
from safevideo_testkit.broker_helpers import read_by_key
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Api

_command = msgspec.json.Decoder(JobQueued)
REPLAY = {"topic": "sharegram.performer.v1", "target": "sync-worker"}


@pytest.fixture
def post(gateway: Api, admin: dict[str, str]) -> Callable[..., Awaitable[int]]:
    """Posts and gives the id of the job in the answer."""

    async def ask(path: str, body: object = None) -> int:
        raw = b"" if body is None else orjson.dumps(body)
        url = f"{gateway.base_url}/api/v1/admin/{path}"
        async with gateway.session.post(url, data=raw, headers=admin | {"X-Request-Id": "req-of-mine"}) as answer:
            assert answer.status == 202
            return int((await answer.json())["data"]["jobId"])

    return ask


async def test_replay_and_retry_notify_their_worker(
    post: Callable[..., Awaitable[int]], embedded_broker: Broker, database: Database
) -> None:
    async def heard() -> int:
        told = await read_by_key(embedded_broker, COMMANDS)
        return sum(_command.decode(value) == wanted for value in told.get(JOB_TYPE.encode(), ()))

    await embedded_broker.create_topics(all_topics(1))
    job_id = await post("replays", REPLAY)
    wanted = JobQueued(job_id, JOB_TYPE, "sync-worker")
    await eventually(lambda: equals(heard(), 1))
    async with database.transaction() as tx:
        await tx.execute(update(batch_jobs).values(status=JobStatus.FAILED))
    assert await post(f"jobs/{job_id}/retry") == job_id
    await eventually(lambda: equals(heard(), 2))


async def equals(found: Awaitable[int], wanted: int) -> bool:
    return await found == wanted
