"""Idempotency keys in the database, and what they are for: a process that is killed between sending and answer."""

import asyncio
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from safevideo_common.database.engine import Database
from safevideo_common.sharegram.errors import IdempotencyKeyConflict
from safevideo_common.sharegram.idempotency import RETENTION, StoredIdempotencyKeys
from safevideo_testkit.each_database import *  # noqa: F403 - both databases
from safevideo_testkit.eventually import FakeClock
from sharegram_simulator.client import SimulatorClient

WRITER = Path(__file__).with_name("verification_writer.py")
KILL_SECONDS = 120


async def test_key_of_a_work_is_the_first_one_also_for_concurrent_processes(database: Database) -> None:
    keys = [StoredIdempotencyKeys(database, FakeClock()) for _ in range(4)]
    reserved = await asyncio.gather(*(each.reserve("kyc:1", b"body") for each in keys))
    assert len(set(reserved)) == 1
    assert await keys[0].reserve("kyc:2", b"body") not in reserved


async def test_key_never_stands_for_another_body(database: Database) -> None:
    keys = StoredIdempotencyKeys(database, FakeClock())
    key = await keys.reserve("kyc:1", b"body")
    with pytest.raises(IdempotencyKeyConflict, match="the content of kyc:1 changed") as raised:
        await keys.reserve("kyc:1", b"another")
    assert "another" not in raised.value.message
    assert await keys.reserve("kyc:1", b"body") == key


@pytest.mark.parametrize("work", ["", "w" * 192])
async def test_work_has_a_name_that_fits(database: Database, work: str) -> None:
    with pytest.raises(ValueError, match="1 to 191"):
        await StoredIdempotencyKeys(database, FakeClock()).reserve(work, b"")


async def test_old_keys_are_pruned_and_young_ones_stay(database: Database) -> None:
    clock = FakeClock()
    keys = StoredIdempotencyKeys(database, clock)
    old = await keys.reserve("old", b"")
    clock.advance(RETENTION)
    young = await keys.reserve("young", b"")
    clock.advance(timedelta(seconds=1))
    assert await keys.prune() == 1
    assert await keys.reserve("young", b"") == young
    assert await keys.reserve("old", b"") != old


async def test_writer_killed_between_sending_and_answer_begins_one_verification(
    database: Database, migrated_url: str, simulator: SimulatorClient
) -> None:
    await simulator.put("/_sim/faults", {"mode": "hang", "afterEffect": True, "paths": ["/v1/kyc/verify"]})
    command = [sys.executable, str(WRITER), migrated_url, simulator.base_url]
    killed = await asyncio.create_subprocess_exec(*command)
    state = await simulator.state_when(lambda state: len(state["verifications"]) == 1)
    killed.send_signal(signal.SIGKILL)
    await killed.wait()
    await simulator.put("/_sim/faults", {"mode": "ok"})
    async with asyncio.timeout(KILL_SECONDS):
        second = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await second.communicate()
    assert output.decode().strip() == state["verifications"][0]["verificationId"]
    assert len((await simulator.state())["verifications"]) == 1
