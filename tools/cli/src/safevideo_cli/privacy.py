"""`safevideo users hold|release|holds`: what keeps the data of a person."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from safevideo_cli.environment import caller, log_action, open_database
from safevideo_cli.options import AsJson, Limit, Page
from safevideo_cli.output import print_json, print_table
from safevideo_common.clock import rfc3339, utc_now
from safevideo_common.privacy.holds import Hold, LegalHolds, find_active

PersonReference = Annotated[
    str, typer.Argument(metavar="PERSON", help="The id of an account, or Sharegram's id of a performer.")
]
Reason = Annotated[str, typer.Option("--reason", help="Such as the number of a case. No personal data: it is audited.")]


def hold(person: PersonReference, reason: Reason, as_json: AsJson = False) -> None:
    """Place a legal hold: neither retention nor erasure deletes anything of the person."""
    _print([asyncio.run(_create(person, reason))], as_json=as_json)


def release(person: PersonReference, reason: Reason, as_json: AsJson = False) -> None:
    """Release every legal hold on the person."""
    _print(asyncio.run(_release(person, reason)), as_json=as_json)


def holds(page: Page = 1, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show the active legal holds."""
    _print(asyncio.run(_find(page, limit)), as_json=as_json)


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
        print_json({"holds": [_document(each) for each in found]})
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


def _document(each: Hold) -> dict[str, object]:
    return {
        "holdId": each.id,
        "userId": each.user_id,
        "performerId": each.performer_id,
        "reason": each.reason,
        "placedAt": rfc3339(each.placed_at),
        "placedBy": each.placed_by,
    }
