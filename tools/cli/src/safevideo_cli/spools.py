"""`safevideo webhook spools`: what waits on the disks of webhook-ingest, and which of them no process has."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from safevideo_cli.environment import caller, log_action, open_database
from safevideo_cli.options import AsJson
from safevideo_cli.output import print_json, print_lines, print_table
from safevideo_common.audit import store as audit
from safevideo_common.clock import utc_now
from safevideo_common.errors import NotFound, ServiceUnavailable
from safevideo_common.settings import load_settings

if TYPE_CHECKING:
    from safevideo_common.webhooks.spool_reports import SpoolReports, SpoolSummary

spools = typer.Typer()


@spools.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the events that wait on the disks of webhook-ingest, and each disk that no process has."""
    if context.invoked_subcommand:
        return
    summary = asyncio.run(_summary())
    if as_json:
        live = {"processes": summary.processes, "events": summary.live.events}
        live["oldestSeconds"] = round(summary.live.oldest_seconds)
        orphaned = [
            {"process": each.process, "events": each.events, "oldestSeconds": round(each.oldest_seconds)}
            for each in summary.orphaned
        ]
        print_json({"live": live, "orphaned": orphaned})
        return
    rows = [
        (f"{summary.processes} running", str(summary.live.events), f"{summary.live.oldest_seconds:.0f} s", "delivers")
    ]
    rows += [(each.process, str(each.events), f"{each.oldest_seconds:.0f} s", "gone") for each in summary.orphaned]
    print_table(("process", "events", "oldest", "state"), rows)


@spools.command()
def forget(
    process: Annotated[str, typer.Argument(metavar="PROCESS", help="One that is gone, as `spools` shows it.")],
) -> None:
    """Forget a spool whose disk is lost or was emptied by hand. It deletes no event: it ends the alert."""
    asyncio.run(_forget(process))
    print_lines(f"The spool of {process} is forgotten.")


@asynccontextmanager
async def _open_reports() -> AsyncIterator["SpoolReports"]:
    """Open Redis. Other commands of the group do not use it, and start faster without its client."""
    from safevideo_cli.redis_services import REDIS_SECONDS, RedisSettings
    from safevideo_common.cache.redis import open_redis
    from safevideo_common.resilience.fail_fast_redis import FailFastRedis, RedisUnavailable
    from safevideo_common.webhooks.spool_reports import SpoolReports

    url = load_settings(RedisSettings).redis_url.get_secret_value()
    async with open_redis(url, 0, seconds=REDIS_SECONDS) as redis:
        try:
            yield SpoolReports(FailFastRedis(redis, seconds=REDIS_SECONDS))
        except RedisUnavailable as error:
            raise ServiceUnavailable("Redis does not answer: what waits in spools is not known.") from error


async def _summary() -> "SpoolSummary":
    async with _open_reports() as reports:
        return await reports.summarize()


async def _forget(process: str) -> None:
    operator = caller()
    async with _open_reports() as reports, open_database() as database:
        if not await reports.forget(process):
            raise NotFound(f"There is no spool of {process} without a process; see: safevideo webhook spools")
        async with database.transaction() as tx:
            await audit.record(tx, operator.entry("webhooks.spool_forgotten", utc_now, {"process": process}))
    log_action("Spool forgotten", operator, process=process)
