"""`safevideo performers show|sync`: each field with its last writer; one performer or all synced with Sharegram."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from safevideo_cli.environment import caller, open_database
from safevideo_cli.jobs import Timeout, print_job, wait_and_print
from safevideo_cli.options import AsJson
from safevideo_cli.output import print_json, print_lines, print_table
from safevideo_common.audit import store as audit
from safevideo_common.clock import utc_now
from safevideo_common.database import performers as performer_store
from safevideo_common.database.engine import Database
from safevideo_common.errors import PerformerNotFound
from safevideo_common.events.envelope import is_external_id
from safevideo_common.inbox.performer_history import FieldDocument, PerformerHistoryDocument, performer_history
from safevideo_common.inbox.store.queries import EVENT_ID, EventDocument, OvertakenFieldDocument
from safevideo_common.jobs.model import Job
from safevideo_common.performer_sync.request import SyncParameters, enqueue_sync
from safevideo_common.settings import load_settings

SYNC_SECONDS: Final = 60.0

app = typer.Typer(no_args_is_help=True)


def _performer_id(text: str) -> str:
    if not EVENT_ID.fullmatch(text) or (text.isdigit() and len(text) > 18):
        raise typer.BadParameter("our id, or 1 to 128 visible ASCII characters")
    return text


@app.callback()
def performers() -> None:
    """Show why a performer has its values, and sync performers with Sharegram."""


@app.command()
def show(
    performer: Annotated[
        str, typer.Argument(metavar="ID", callback=_performer_id, help="Sharegram's id of the performer, or ours.")
    ],
    email: Annotated[bool, typer.Option("--email", help="Its e-mail address too, which is personal data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show each field with its last writer, and the newest events that did not change what they say, and why."""
    history = asyncio.run(_history(performer, with_email=email))
    if as_json:
        print_json(history)
        return
    print_lines(f"{history['performerId']}, our id {history['id']}, updated at {history['updatedAt']}")
    if (decision := history["decision"]) is not None:
        ends = "" if decision["until"] is None else f" until {decision['until']}"
        effect = "stands" if decision["stands"] else "was replaced by a newer status of Sharegram"
        print_lines(
            f"Status {history['status']}. {decision['decidedBy']} decided {decision['status']}{ends} "
            f"at {decision['decidedAt']}; the decision {effect}."
        )
    _print_fields(history["fields"])
    _print_unapplied(history["unapplied"])


def _print_fields(fields: Sequence[FieldDocument]) -> None:
    rows = (
        (
            each["field"],
            "" if each["value"] is None else str(each["value"]),
            "" if each["version"] is None else str(each["version"]),
            each["occurredAt"] or "never set",
            each["eventId"] or "",
        )
        for each in fields
    )
    print_table(("field", "value", "version", "at (UTC)", "last writer"), rows)


def _print_unapplied(events: Sequence[EventDocument]) -> None:
    if not events:
        print_lines("Every event of this performer that the inbox has is applied in full.")
        return
    print_lines("Events that are not applied, or only in part, the newest first:")
    rows = (
        (
            each["eventId"],
            "" if each["version"] is None else str(each["version"]),
            each["receivedAt"],
            each["status"],
            _losses(each) if each["overtaken"] else each["reason"] or "",
        )
        for each in events
    )
    print_table(("event", "version", "received (UTC)", "status"), rows, sentence="reason")


def _losses(event: EventDocument) -> str:
    code = (event["reason"] or "OVERTAKEN").partition(":")[0]
    losses = (f"{each['field']} by {_write(each)}" for each in event["overtaken"])
    return f"{code}: {', '.join(losses)}"


def _write(overtaken: OvertakenFieldDocument) -> str:
    write = (
        f"an event of {overtaken['occurredAt']}" if overtaken["version"] is None else f"version {overtaken['version']}"
    )
    return f"{write} ({overtaken.get('eventId') or 'its event is not in the inbox any more'})"


async def _history(performer: str, *, with_email: bool) -> PerformerHistoryDocument:
    async with open_database() as database:
        return await performer_history(database, performer, with_email=with_email)


@app.command()
def sync(
    performer: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Only this performer: our id, or Sharegram's (sg_…).")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --id: also within five minutes of its last sync. Alone: a full sync.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what differs; change nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job and show its progress.")] = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Sync with Sharegram: one performer at once, or by a job all that have changed since the last sync.

    For one performer it needs the settings of calls to Sharegram, and REDIS_URL. The action is audited.
    """
    if performer is not None:
        _check_usage(performer, dry_run=dry_run)
        sharegram_id, updated = asyncio.run(_sync_one(performer, force=force))
        if as_json:
            print_json({"performerId": sharegram_id, "updated": updated})
        else:
            print_lines(f"{sharegram_id} {'was updated' if updated else 'is as Sharegram has it'}.")
        return
    job = asyncio.run(_enqueue(SyncParameters(full_sync=force, dry_run=dry_run)))
    if wait:
        wait_and_print(job.id, timeout, as_json=as_json)
        return
    print_job(job, as_json=as_json)
    if not as_json:
        print_lines(f"To wait for its result: safevideo jobs wait {job.id}")


def _check_usage(performer: str, *, dry_run: bool) -> None:
    if dry_run:
        raise typer.BadParameter("--dry-run is for a sync of all performers")
    if not is_external_id(performer):
        raise typer.BadParameter("--id: our id, or Sharegram's")


async def _sync_one(performer: str, *, force: bool) -> tuple[str, bool]:
    from safevideo_cli.redis_services import REDIS_SECONDS, RedisSettings
    from safevideo_cli.sharegram import open_client
    from safevideo_common.cache.invalidator import RedisCacheInvalidator
    from safevideo_common.cache.performers import PerformerCache
    from safevideo_common.cache.redis import open_redis
    from safevideo_common.performer_sync.mirror import PerformerMirror
    from safevideo_common.performer_sync.one import PerformerSync
    from safevideo_common.sharegram.operations import SharegramCaller

    settings, who = load_settings(RedisSettings), caller()
    redis_url = settings.redis_url.get_secret_value()
    async with (
        open_client() as (sharegram, database, logger),
        open_redis(redis_url, 0, seconds=REDIS_SECONDS) as redis,
    ):
        sharegram_id = await _sharegram_id(database, performer)
        cache = RedisCacheInvalidator(PerformerCache(redis), logger)
        one = PerformerSync(database, sharegram, PerformerMirror(cache, utc_now), utc_now, logger)
        origin = SharegramCaller.api(who.request_id, seconds=SYNC_SECONDS)
        updated = await one.sync(sharegram_id, origin, force=force)
        async with database.transaction() as tx:
            details = {"performerId": sharegram_id, "updated": updated, "force": force}
            await audit.record(tx, who.entry("performers.sync_one", utc_now, details))
    return sharegram_id, updated


async def _sharegram_id(database: Database, performer: str) -> str:
    if not performer.isdecimal():
        return performer
    async with database.read_connection() as connection:
        stored = await performer_store.get(connection, int(performer))
    if stored is None:
        raise PerformerNotFound("There is no such performer.")
    return stored.performer.sharegram_id


async def _enqueue(parameters: SyncParameters) -> Job:
    async with open_database() as database:
        return await enqueue_sync(database, parameters, caller(), utc_now)
