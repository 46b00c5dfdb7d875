"""SIGKILL of a whole `make run` mid-stream loses nothing: its state is in files.

`make chaos` kills it five times; `RUN_KILLS` says how often.
"""

import asyncio
import os
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from secrets import token_hex

from sqlalchemy import select

from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox
from safevideo_common.errors import DatabaseUnavailable
from safevideo_devstack.run.testing import free_offset, serving_run
from safevideo_testkit.eventually import eventually
from safevideo_testkit.oracle.checks import insert_requests, state_differences
from safevideo_testkit.oracle.model import Key, expect
from safevideo_testkit.oracle.stream import Stream, write_stream
from safevideo_testkit.oracle.system import SETTLE_SECONDS
from safevideo_testkit.webhook_sender import send_all

KILLS = int(os.environ.get("RUN_KILLS", "2"))
EVENTS = 400 * KILLS


async def test_make_run_applies_each_event_once_when_it_is_killed(tmp_path: Path) -> None:
    folder, offset = tmp_path / "run", free_offset()
    stream = write_stream(performers=100, events=EVENTS, seed=11, prefix=f"sg_{token_hex(4)}")
    async with AsyncExitStack() as runs:
        run = await runs.enter_async_context(serving_run(folder, offset))  # it makes the database and the secrets
        variables = run.environment()
        url, secret = variables["SAFEVIDEO_WEBHOOK_URL"], variables["SHAREGRAM_WEBHOOK_SECRET"]
        database = await runs.enter_async_context(Database.open(variables["DATABASE_URL"]))
        tasks = await runs.enter_async_context(asyncio.TaskGroup())

        async def has_reached(events: int) -> bool:
            return len(await _statuses(database, stream)) >= events

        async def is_settled() -> bool:
            statuses = await _statuses(database, stream)
            return len(statuses) == EVENTS and "waiting" not in statuses.values()

        await insert_requests(database, stream.performers)
        sending = tasks.create_task(send_all(url, secret, stream.webhooks))
        for kill in range(1, KILLS + 1):
            await eventually(partial(has_reached, EVENTS * kill // (KILLS + 1)), SETTLE_SECONDS)
            await run.kill()
            run = await runs.enter_async_context(serving_run(folder, offset))
        await sending
        await eventually(is_settled, SETTLE_SECONDS)
        assert await run.interrupt() == 0
        # The order of arrival decides which events are stale, but not the state: no two have one version.
        expected = expect(stream, stream.webhooks)
        statuses = await _statuses(database, stream)
        assert statuses.keys() == expected.inbox.keys()
        assert {*statuses.values()} == {"applied", "stale", "ignored"}
        ignored = {key for key, entry in expected.inbox.items() if entry.outcome.status == "ignored"}
        assert {key for key, status in statuses.items() if status == "ignored"} == ignored
        assert not await state_differences(database, expected, stream.performers)


async def _statuses(database: Database, stream: Stream) -> dict[Key, str]:
    c = event_inbox.c
    query = select(c.consumer_group, c.event_id, c.status).where(c.performer_id.in_(stream.performers))
    try:
        async with database.read_connection() as connection:
            return {(group, event_id): status for group, event_id, status in await connection.execute(query)}
    except DatabaseUnavailable:  # busy: SQLite first recovers what the killed process has written
        return {}
