"""Runbooks are used under pressure: each command runs here, on services with all incidents of the runbooks."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from safevideo_testkit.incidents import incident
from safevideo_testkit.runbook_pages import Command, commands

COMMAND_SECONDS = 120.0
CONCURRENT_COMMANDS = 4


async def test_runbook_commands_succeed_and_print_something(tmp_path: Path, safevideo_command: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the runbooks use curl, which is not there")
    (tmp_path / "logs").mkdir()
    async with incident(tmp_path, safevideo_command) as (to_local, environment):
        executed, limit = (
            [each for each in commands() if not each.is_for_elsewhere],
            asyncio.Semaphore(CONCURRENT_COMMANDS),
        )

        async def run(command: Command) -> str:
            async with limit:
                return await failure_of(command, to_local, environment)

        failures = await asyncio.gather(*map(run, executed))
    assert [failure for failure in failures if failure] == []


async def failure_of(command: Command, to_local: Callable[[str], str], environment: Mapping[str, str]) -> str:
    """Return an empty string if the command succeeded and printed something; otherwise its output."""
    line = f"set -euo pipefail; {to_local(command.line)}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", line, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(COMMAND_SECONDS):
        out, err = await process.communicate()
    succeeded = process.returncode == 0 and out.strip() and b'"code":"INTERNAL_ERROR"' not in out
    return "" if succeeded else f"{command} ended with {process.returncode}: {out.decode()}{err.decode()}"
