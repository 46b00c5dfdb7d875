"""`safevideo users hold|release|holds|erase|erasures`: what keeps the data of a person, and its erasure."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from safevideo_cli.environment import caller, log_action, open_database
from safevideo_cli.jobs import Timeout, wait_and_print
from safevideo_cli.options import AsJson, Limit, Page
from safevideo_cli.output import print_error, print_json, print_json_text, print_lines, print_table, print_yaml
from safevideo_common.clock import rfc3339, utc_now
from safevideo_common.privacy.erasure import ErasurePlan, Erasures, ExportedOrder, decode_orders, encode_orders
from safevideo_common.privacy.holds import (
    ExportedHold,
    Hold,
    ImportedHolds,
    LegalHolds,
    decode_holds,
    encode_holds,
    find_active,
    hold_document,
)

erasures_app = typer.Typer(no_args_is_help=True)
holds_app = typer.Typer()
PersonReference = Annotated[
    str, typer.Argument(metavar="PERSON", help="The id of an account, or Sharegram's id of a performer.")
]
Exported = TypeVar("Exported")
Reason = Annotated[str, typer.Option("--reason", help="Such as the number of a case. No personal data: it is audited.")]


def hold(person: PersonReference, reason: Reason, as_json: AsJson = False) -> None:
    """Place a legal hold: neither retention nor erasure deletes anything of the person."""
    _print([asyncio.run(_create(person, reason))], as_json=as_json)


def release(person: PersonReference, reason: Reason, as_json: AsJson = False) -> None:
    """Release every legal hold on the person."""
    _print(asyncio.run(_release(person, reason)), as_json=as_json)


@holds_app.callback(invoke_without_command=True)
def holds(context: typer.Context, page: Page = 1, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show the active legal holds."""
    if context.invoked_subcommand:
        return
    _print(asyncio.run(_find(page, limit)), as_json=as_json)


def erase(
    person: PersonReference,
    reason: Annotated[str, typer.Option("--reason", help="Such as the number of the request. No personal data.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Erase. Without it this is a dry run.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job and show its progress.")] = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Erase a person for good: all accounts, performers, KYC requests and documents. It cannot be undone.

    The order is written first, and a job of kyc-worker applies it. The command may be repeated at any time.
    """
    if yes and not reason:
        raise typer.BadParameter("is required with --yes", param_hint="--reason")
    plan = asyncio.run(_erase(person, reason if yes else None))
    if wait and plan.job_id is not None:
        wait_and_print(plan.job_id, timeout, as_json=as_json)
        return
    document: dict[str, object] = {
        "dryRun": not yes,
        "userIds": list(plan.person.user_ids),
        "performerIds": list(plan.person.performer_ids),
        "rows": dict(plan.rows),
        "orderId": plan.order_id,
        "jobId": plan.job_id,
    }
    if as_json:
        print_json(document)
    else:
        print_yaml(document)


async def _erase(person: str, reason: str | None) -> ErasurePlan:
    who = caller()
    async with open_database() as database:
        erasures = Erasures(database, utc_now)
        if reason is None:
            return await erasures.preview(parse_person(person))
        plan = await erasures.order(parse_person(person), reason, who)
    log_action("Erasure ordered", who, order=plan.order_id, job_id=plan.job_id)
    return plan


@erasures_app.command("export")
def export_orders() -> None:
    """Print all erasure orders as JSON, to be kept with each backup. It has ids and digests, and no names."""
    print_json_text(encode_orders(asyncio.run(_export())))


@erasures_app.command("import")
def import_orders(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The output of `erasures export`.")],
) -> None:
    """Write the orders that a restored database does not have. A job of kyc-worker then applies all of them."""
    orders = _read_export(file, decode_orders, "erasure orders")
    print_lines(
        f"{asyncio.run(_import(orders))} of {len(orders)} orders were missing. The job person_erasure is enqueued."
    )


@holds_app.command("export")
def export_holds() -> None:
    """Print all active holds as JSON, to be kept with each backup. It has ids, digests and reasons, and no names."""
    print_json_text(encode_holds(asyncio.run(_export_holds())))


@holds_app.command("import")
def import_holds(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The output of `holds export`.")],
) -> None:
    """Place the holds that a restored database does not have, and release those that were released since.

    It fails if the person of one is not there.
    """
    exported = _read_export(file, decode_holds, "legal holds")
    imported = asyncio.run(_import_holds(exported))
    print_lines(
        f"{len(imported.added)} of {len(exported)} holds were missing, {len(imported.released)} had been released."
    )
    if imported.without_person:
        names = ", ".join(str(each) for each in imported.without_person)
        print_error(f"The database has nobody for these holds of the file: {names}. Place them by hand.")
        raise typer.Exit(1)


def _read_export(file: Path, decode: Callable[[bytes], Sequence[Exported]], what: str) -> Sequence[Exported]:
    """Return what an export command printed into the file. Raises `typer.BadParameter`."""
    try:
        return decode(file.read_bytes())
    except ValueError as error:
        raise typer.BadParameter(f"is no export of {what}: {error}", param_hint="FILE") from None


async def _export_holds() -> Sequence[ExportedHold]:
    async with open_database() as database:
        return await LegalHolds(database, utc_now).export()


async def _import_holds(exported: Sequence[ExportedHold]) -> ImportedHolds:
    who = caller()
    async with open_database() as database:
        imported = await LegalHolds(database, utc_now).import_holds(exported, who)
    log_action("Legal holds imported", who, added=len(imported.added), released=len(imported.released))
    return imported


async def _export() -> Sequence[ExportedOrder]:
    async with open_database() as database:
        return await Erasures(database, utc_now).export()


async def _import(orders: Sequence[ExportedOrder]) -> int:
    who = caller()
    async with open_database() as database:
        added = await Erasures(database, utc_now).import_orders(orders, who)
    log_action("Erasure orders imported", who, added=added)
    return added


def parse_person(text: str) -> int | str:
    """Return an account's id for digits, else Sharegram's id of a performer."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else text


async def _create(person: str, reason: str) -> Hold:
    who = caller()
    async with open_database() as database:
        created = await LegalHolds(database, utc_now).create(parse_person(person), reason, who)
    log_action("Legal hold placed", who, hold=created.id)
    return created


async def _release(person: str, reason: str) -> Sequence[Hold]:
    who = caller()
    async with open_database() as database:
        released = await LegalHolds(database, utc_now).release(parse_person(person), reason, who)
    log_action("Legal holds released", who, holds=[each.id for each in released])
    return released


async def _find(page: int, limit: int) -> Sequence[Hold]:
    async with open_database() as database, database.read_connection() as reading:
        found, _ = await find_active(reading, page=page, limit=limit)
    return found


def _print(found: Sequence[Hold], *, as_json: bool) -> None:
    if as_json:
        print_json({"holds": [hold_document(each) for each in found]})
        return
    rows = [
        (
            str(each.id),
            str(each.user_id or ""),
            each.performer_id or "",
            rfc3339(each.placed_at),
            each.placed_by,
            each.reason,
        )
        for each in found
    ]
    print_table(("hold", "user", "performer", "placed", "by"), rows, sentence="reason")
