"""`make run` as people start it: a process that shows its table, serves, and ends without a trace.

All tests but one share a run, in the order of this file. The last one kills it.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from safevideo_devstack.backends import process
from safevideo_devstack.run.testing import RunningRun, free_offset, running_run, serving_run
from safevideo_testkit.eventually import eventually

OUTCOMES = ("applied", "duplicate", "stale", "ignored", "401 WEBHOOK_SIGNATURE_INVALID", "refused")
SECONDS = 180.0
EVENTS_OF_DEMO = 9


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("make-run")]


@pytest.fixture(scope="module")
def offset() -> int:
    return free_offset()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory, offset: int) -> AsyncIterator[RunningRun]:
    async with serving_run(tmp_path_factory.mktemp("make-run") / "run", offset) as running:
        yield running


async def test_make_run_shows_the_outcomes_of_the_demo(run: RunningRun) -> None:
    assert all(word in run.output for word in OUTCOMES)
    assert "not decided yet" not in run.output


async def test_make_run_writes_a_working_env(run: RunningRun) -> None:
    env = run.environment()
    assert await _events(env) == EVENTS_OF_DEMO
    await run.until_healthy({"host", "valkey"}, seconds=SECONDS)
    async with ClientSession() as session:
        async with session.post(env["SAFEVIDEO_WEBHOOK_URL"], json={"test": True}) as response:
            assert response.status == 401
            assert (await response.json())["error"]["code"] == "WEBHOOK_SIGNATURE_INVALID"
        async with session.get(f"{env['SAFEVIDEO_SIMULATOR_URL']}/_sim/state") as response:
            assert response.status == 200
    assert (Path(env["LOG_DIR"]) / "app.log").exists()
    assert env["KAFKA_BOOTSTRAP_SERVERS"] == ""
    listed = await asyncio.to_thread(_type_after_env, run, "safevideo events list")
    assert "9 of 9" in listed
    await run.until(f"The logs are in {env['LOG_DIR']}, the processes in {run.folder / 'pids'}.", seconds=SECONDS)
    assert "safevideo events list" in run.output
    assert "A performer signed in with the stand-in Sharegram: user 1, role performer." in run.output
    assert "So did sg_moderator as moderator, sg_admin as admin." in run.output
    staff = await asyncio.to_thread(_type_after_env, run, "safevideo users list --json")
    roles = {each["sharegramId"]: each["role"] for each in json.loads(staff)["accounts"]}
    sign_in = f"{env['SAFEVIDEO_GATEWAY_URL']}/auth/sso/login?returnTo=/docs"
    async with ClientSession() as browser, browser.get(sign_in) as page:
        assert "Admin (sg_admin)" in await page.text()
    assert roles.items() >= {"sg_moderator": "moderator", "sg_admin": "admin"}.items()
    for block, answer in zip(
        readme_blocks("access_token=", "keys generate"), ('"displayName"', '"totalItems"'), strict=True
    ):
        answers = await asyncio.to_thread(_type_after_env, run, block)
        assert answer in answers
        assert "UNAUTHORIZED" not in answers.partition('"openapi"')[0]


async def test_make_run_prints_a_line_for_each_webhook(run: RunningRun) -> None:
    async with ClientSession(run.environment()["SAFEVIDEO_SIMULATOR_URL"]) as simulator:
        order = {"event": "performer.status.changed", "data": {"performerId": "sg_feed", "status": "active"}}
        await simulator.post("/_sim/webhooks", json=order | {"times": 2})
        await simulator.post("/_sim/webhooks", json=order | {"forge": True})
    await run.until("refused: WEBHOOK_SIGNATURE_INVALID", seconds=SECONDS)
    for outcome in ("applied", "duplicate"):
        await run.until(f"{'sg_feed':<20}  {outcome}", seconds=SECONDS)


def has_report(logs: Path) -> bool:
    return any(logs.glob("memory-host-*.txt"))


async def test_make_run_ends_on_ctrl_c_before_the_table(tmp_path: Path) -> None:
    async with running_run(tmp_path / "run", free_offset()) as run:
        await run.until("Database migrated")
        assert await run.interrupt() == 0
        assert "Traceback" not in run.output


async def test_make_run_refuses_a_second_start_with_the_pid(run: RunningRun, offset: int) -> None:
    async with running_run(run.folder, offset) as second:
        await second.until(f"process {run.pids()['host']}")
        assert await second.process.wait() == 1


async def test_make_run_restarts_valkey_that_dies(run: RunningRun) -> None:
    valkey = run.pids()["valkey"]
    os.kill(valkey, signal.SIGKILL)
    await run.until("valkey has ended; it is started again", seconds=SECONDS)
    await run.until_healthy({"host", "valkey"}, seconds=SECONDS)
    assert run.pids()["valkey"] != valkey


async def test_make_run_writes_a_memory_report(run: RunningRun) -> None:
    logs = Path(run.environment()["LOG_DIR"])
    os.kill(run.pids()["host"], signal.SIGUSR2)
    await eventually(lambda: asyncio.to_thread(has_report, logs))


async def test_make_run_loses_nothing_when_it_is_killed_and_ends_in_time_while_a_client_hangs(
    run: RunningRun, offset: int
) -> None:
    env, valkey, events = run.environment(), run.pids()["valkey"], await _events(run.environment())
    await run.kill()
    for start in range(1, 4):
        async with serving_run(run.folder, offset) as again:
            assert again.environment() == env
            assert process.start_time_of(valkey) is None
            assert await _events(env) == events + start * EVENTS_OF_DEMO
            pids = again.pids()
            start_times = {name: process.start_time_of(pid) for name, pid in pids.items()}
            assert pids.keys() == {"host", "valkey"}
            assert None not in start_times.values()
            writer = await _send_half_a_request(env)
            status = await again.interrupt()
            writer.close()
            assert [name for name, pid in pids.items() if process.start_time_of(pid) == start_times[name]] == []
        if status != -signal.SIGALRM:  # a busy machine may need more than the nine seconds, but not every time
            break
    assert status == 0
    assert not (again.folder / "pids").exists()
    assert "Traceback" not in again.output


async def _send_half_a_request(env: Mapping[str, str]) -> asyncio.StreamWriter:
    address = env["SAFEVIDEO_WEBHOOK_URL"].removeprefix("http://").partition("/")[0]
    host, _, port = address.partition(":")
    _reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /webhooks/sharegram HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    await writer.drain()
    return writer


def readme_blocks(*words: str) -> list[str]:
    """The shell lines of README.md that have one of the words, without the first, which reads `.run/env`."""
    text = (Path(__file__).parents[4] / "README.md").read_text()
    blocks = [block.removeprefix(". .run/env\n") for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)]
    found = [block for word in words for block in blocks if word in block]
    assert len(found) == len(words)
    return found


def _type_after_env(run: RunningRun, command: str) -> str:
    return subprocess.run(
        ["/bin/sh", "-ec", f'. "$1"; {command}', "sh", str(run.folder / "env")],
        env={},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


async def _events(env: Mapping[str, str]) -> int:
    headers = {"X-API-Client": env["SAFEVIDEO_API_CLIENT"], "X-API-Key": env["SAFEVIDEO_API_KEY"]}
    url = f"{env['SAFEVIDEO_GATEWAY_URL']}/api/v1/admin/events"
    async with ClientSession() as session, session.get(url, headers=headers) as response:
        total: int = (await response.json())["pagination"]["totalItems"]
        return total
