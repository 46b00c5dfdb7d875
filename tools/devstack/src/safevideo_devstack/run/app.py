"""The course of one run: everything up, the opening scene, and then serving until Ctrl-C."""

import asyncio
import os
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Final

from aiohttp import ClientError
from rich.console import Console

from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_devstack.backends.process import Process, birth_of
from safevideo_devstack.run.config import Stack
from safevideo_devstack.run.context import RunContext, shell_environment
from safevideo_devstack.run.demo import send_all, table_of
from safevideo_devstack.run.event_feed import EventFeed, IngestLogTail
from safevideo_devstack.run.setup import RunningStack, admin_key, run_together
from safevideo_devstack.run.signals import report_on_signal, stop_on_signal
from safevideo_devstack.run.state_files import write_env

# What to type next.


SERVING: Final = "It serves until Ctrl-C."


def next_steps(env: Path) -> str:
    """Four things to try in another terminal, on the variables of `env`."""
    here = Path.cwd()
    shown = env.relative_to(here) if env.is_relative_to(here) else env
    return f"""\
{SERVING} In another terminal:

  . {shown}
  curl -X POST $SAFEVIDEO_SIMULATOR_URL/_sim/performers -d '{{"count": 3}}'
  curl -X POST $SAFEVIDEO_WEBHOOK_URL -H "Content-Type: application/json" -d '{{"test": true}}'
  curl -H "X-API-Client: $SAFEVIDEO_API_CLIENT" -H "X-API-Key: $SAFEVIDEO_API_KEY" \\
       "$SAFEVIDEO_GATEWAY_URL/api/v1/admin/events"
  curl $SAFEVIDEO_GATEWAY_URL/api/integration/health

The logs are in $LOG_DIR, the processes in {shown.with_name("pids")}.
"""


DATABASE_CONNECTIONS: Final = 2
DATABASE_SECONDS: Final = 10.0
WIDTH_OF_NO_TERMINAL: Final = 120


async def run(run: RunContext) -> None:
    """Run to the end, which a signal brings. Raises what stopped the start, or `BackgroundTaskDied`."""
    task = asyncio.current_task()
    assert task is not None
    stop_on_signal(task)
    report_on_signal(_role_of_this_process(run.stack), run.place.logs)
    try:
        await _serve(run)
    except asyncio.CancelledError:
        run.say("Ended. The state is kept; `make clean` forgets it.")


async def _serve(run: RunContext) -> None:
    async with AsyncExitStack() as stack:
        stack.callback(run.roster.close)
        run.say(f"Starting the services on the {run.stack} stack …")
        run.roster.note(Process(_role_of_this_process(run.stack), os.getpid(), birth_of(os.getpid()) or ""))
        system = await stack.enter_async_context(_stack(run))
        database = await stack.enter_async_context(
            Database.open(system.backends.database, pool_size=DATABASE_CONNECTIONS, timeout=DATABASE_SECONDS)
        )
        await _open(run, system, database)
        narrator = EventFeed(IngestLogTail(run.place.logs / "app.log", utc_now()), database, run.say)
        await run_together(system.failure(), narrator.tell())


async def _open(run: RunContext, system: RunningStack, database: Database) -> None:
    api_key = await admin_key(run, database)
    write_env(run.place.env, shell_environment(run, system.backends, api_key))
    try:
        scene = await send_all(run, database, api_key)
    except (ClientError, TimeoutError) as error:  # a machine that is too busy for a show can still serve
        run.say(f"The opening scene was broken off: {type(error).__name__}. See {run.place.logs}.")
    else:
        Console(width=None if sys.stdout.isatty() else WIDTH_OF_NO_TERMINAL).print(table_of(scene))
    run.say(next_steps(run.place.env))


def _role_of_this_process(stack: Stack) -> str:
    return "host" if stack == "embedded" else "supervisor"


def _stack(run: RunContext) -> AbstractAsyncContextManager[RunningStack]:
    # Imported here: only one of them is needed, and the start has seconds.
    if run.stack == "embedded":
        from safevideo_devstack.run.embedded import embedded

        return embedded(run)
    from safevideo_devstack.run.local import local

    return local(run)
