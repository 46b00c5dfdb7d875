"""`safevideo users`: accounts, their rights, duplicates of them, and what happens to the data of a person."""

import asyncio
from typing import Annotated

import typer

from safevideo_cli import accounts, privacy
from safevideo_cli.environment import caller, open_database
from safevideo_cli.options import AsJson, Limit, Page
from safevideo_cli.output import format_second, print_json, print_lines, print_table, print_yaml
from safevideo_common.clock import format_timestamp, rfc3339, utc_now
from safevideo_common.users import store
from safevideo_common.users.merge import UserChanges, UserMerges
from safevideo_common.users.store import User

app = typer.Typer(no_args_is_help=True)
app.command("list")(accounts.list_accounts)
for _command in (
    *(accounts.show, accounts.grant, accounts.revoke, accounts.suspend, accounts.reinstate, accounts.end_sessions),
    *(privacy.hold, privacy.release, privacy.erase),
):
    app.command()(_command)
app.add_typer(privacy.holds_app, name="holds")
app.add_typer(privacy.erasures_app, name="erasures", help="Keep the orders of erasures with backups.")

MAX_ID = 2**63 - 1
Primary = Annotated[int, typer.Argument(metavar="PRIMARY", min=1, max=MAX_ID, help="The account that stays.")]
Duplicates = Annotated[
    list[int], typer.Argument(metavar="DUPLICATE...", min=1, max=MAX_ID, help="The accounts that become part of it.")
]
Merged = Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="The account that was merged.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would move, and change nothing.")]
Apply = Annotated[bool, typer.Option("--apply", help="Change something. Without it this is a dry run.")]


@app.command()
def duplicates(page: Page = 1, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show accounts that share an e-mail. Merged ones are not among them."""
    groups, total = asyncio.run(_duplicates(page, limit))
    if as_json:
        print_json({"groups": [[_document(user) for user in group] for group in groups], "total": total})
        return
    rows = [
        (
            user.email or "",
            str(user.id),
            user.role,
            user.sharegram_id or "",
            format_second(user.created_at),
            format_second(user.last_sign_in_at),
        )
        for group in groups
        for user in group
    ]
    print_table(("e-mail", "id", "role", "sharegram id", "created (UTC)", "last sign-in"), rows)
    print_lines(f"{total} e-mails are shared.")


@app.command()
def merge(primary: Primary, duplicate: Duplicates, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Merge accounts into PRIMARY: all or nothing. The others cannot sign in any more, and their sessions end."""
    _print(asyncio.run(_merge(primary, duplicate, dry_run=dry_run)), as_json=as_json)


@app.command()
def unmerge(user_id: Merged, apply: Apply = False, as_json: AsJson = False) -> None:
    """Reverse the last merge of an account. What was touched since stays, and is listed."""
    _print(asyncio.run(_unmerge(user_id, dry_run=not apply)), as_json=as_json)


async def _duplicates(page: int, limit: int) -> tuple[list[list[User]], int]:
    async with open_database() as database, database.read_connection() as reading:
        return await store.find_duplicates(reading, page=page, limit=limit)


async def _merge(primary: int, duplicate_ids: list[int], *, dry_run: bool) -> UserChanges:
    from safevideo_cli.sessions import open_sessions

    async with open_database() as database, open_sessions() as sessions:
        merges = UserMerges(database, sessions, utc_now)
        return await merges.merge(primary, duplicate_ids, caller(), dry_run=dry_run)


async def _unmerge(user_id: int, *, dry_run: bool) -> UserChanges:
    from safevideo_cli.sessions import open_sessions

    async with open_database() as database, open_sessions() as sessions:
        return await UserMerges(database, sessions, utc_now).unmerge(user_id, caller(), dry_run=dry_run)


def _print(changes: UserChanges, *, as_json: bool) -> None:
    document: dict[str, object] = {
        "dryRun": changes.is_dry_run,
        "primaryUserId": changes.primary_id,
        "duplicateUserIds": list(changes.duplicate_ids),
        "moved": dict(changes.moved),
        "fields": list(changes.fields),
        "role": str(changes.role),
        "notMoved": list(changes.not_moved),
    }
    if as_json:
        print_json(document)
    else:
        print_yaml(document)


def _document(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "email": user.email,
        "role": user.role,
        "sharegramId": user.sharegram_id,
        "createdAt": rfc3339(user.created_at),
        "lastSignInAt": format_timestamp(user.last_sign_in_at),
    }
