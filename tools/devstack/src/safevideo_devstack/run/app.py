"""The course of one run: everything up, the demo, and then serving until Ctrl-C."""

import asyncio
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Final

from aiohttp import ClientError
from rich.console import Console

from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_devstack.backends.process import this_process
from safevideo_devstack.run.config import Stack
from safevideo_devstack.run.context import RunContext, shell_environment
from safevideo_devstack.run.demo import results_table, send_all, sign_in_everybody
from safevideo_devstack.run.event_feed import EventFeed, IngestLogTail
from safevideo_devstack.run.setup import RunningStack, admin_key, grant_staff, run_together
from safevideo_devstack.run.signals import report_on_signal, stop_on_signal
from safevideo_devstack.run.state_files import write_env

SERVING: Final = "It serves until Ctrl-C."
DATABASE_CONNECTIONS: Final = 2
DATABASE_SECONDS: Final = 10.0
WIDTH_WITHOUT_TERMINAL: Final = 120


async def run(run: RunContext) -> None:
    """Run until a signal. Raises the error that stopped the start, or `BackgroundTaskDied`."""
    task = asyncio.current_task()
    assert task is not None
    stop_on_signal(task)
    report_on_signal(_process_name(run.stack), run.paths.logs)
    try:
        await _serve(run)
    except asyncio.CancelledError:
        run.say("Ended. The state is kept; `make clean` removes it.")


async def _serve(run: RunContext) -> None:
    async with AsyncExitStack() as stack:
        stack.callback(run.pids.close)
        run.say(f"Starting the services on the {run.stack} stack …")
        run.pids.add(this_process(_process_name(run.stack)))
        running = await stack.enter_async_context(_stack(run))
        database = await stack.enter_async_context(
            Database.open(running.backends.database, pool_size=DATABASE_CONNECTIONS, timeout=DATABASE_SECONDS)
        )
        await _show_demo(run, running, database)
        feed = EventFeed(IngestLogTail(run.paths.logs / "app.log", utc_now()), database, run.say)
        await run_together(running.failure(), feed.run())


async def _show_demo(run: RunContext, running: RunningStack, database: Database) -> None:
    api_key = await admin_key(run, database)
    write_env(run.paths.env, shell_environment(run, running.backends, api_key))
    try:
        results = await send_all(run, database, api_key)
        await grant_staff(database)
        signed_in = await sign_in_everybody(run)
    except (ClientError, TimeoutError) as error:  # a machine that is too busy for a demo can still serve
        run.say(f"The demo was interrupted: {type(error).__name__}. See {run.paths.logs}.")
    else:
        Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL).print(results_table(results))
        run.say(signed_in)
    run.say(_next_steps(run))


def _next_steps(run: RunContext) -> str:
    paths = run.paths
    return f"""\
{SERVING} In another terminal:

  . {_relative(paths.env)}
  safevideo events list
  curl -X POST $SAFEVIDEO_SIMULATOR_URL/_sim/performers -d '{{"count": 3}}'
  curl -X POST $SAFEVIDEO_WEBHOOK_URL -H "Content-Type: application/json" -d '{{"test": true}}'
  curl -H "X-API-Client: $SAFEVIDEO_API_CLIENT" -H "X-API-Key: $SAFEVIDEO_API_KEY" \\
       "$SAFEVIDEO_GATEWAY_URL/api/v1/admin/events"
  curl $SAFEVIDEO_GATEWAY_URL/api/integration/health

Sign in as a performer (sg_make_run), a moderator (sg_moderator) or an admin (sg_admin). In a browser, where Sharegram's
page asks who you are: {run.url("gateway")}/auth/sso/login?returnTo=/docs
By hand, and call the API with the access token:

  provider_token=$(curl -s $SAFEVIDEO_SIMULATOR_URL/_sim/tokens -d '{{"sub": "sg_admin"}}' | cut -d'"' -f4)
  access_token=$(curl -s -X POST $SAFEVIDEO_GATEWAY_URL/auth/sso/unified-login \\
       -H "Authorization: Bearer $provider_token" -H "X-SSO-Provider: sharegram" | cut -d'"' -f8)
  curl -H "Authorization: Bearer $access_token" $SAFEVIDEO_GATEWAY_URL/api/v1/admin/users
  safevideo users list

The logs are in {_relative(paths.logs)}, the processes in {_relative(paths.pids)}.
"""


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _process_name(stack: Stack) -> str:
    return "host" if stack == "embedded" else "supervisor"


def _stack(run: RunContext) -> AbstractAsyncContextManager[RunningStack]:
    # Imported here: only one of them is needed, and the start should take seconds.
    if run.stack == "embedded":
        from safevideo_devstack.run.embedded import embedded

        return embedded(run)
    from safevideo_devstack.run.local import local

    return local(run)
