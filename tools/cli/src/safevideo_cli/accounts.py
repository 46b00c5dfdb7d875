"""`safevideo users list|show|grant|revoke|suspend|reinstate|end-sessions`: accounts, and what each may do."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Final

import typer

from safevideo_cli.environment import caller, log_action, open_database
from safevideo_cli.options import After, AsJson, Limit, Wide, parse_timestamp
from safevideo_cli.output import format_second, print_json, print_lines, print_table, print_yaml
from safevideo_common.auth.api_keys import Role
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.errors import UserMappingConflict, UserNotFound
from safevideo_common.privacy.holds import active_holds, hold_document
from safevideo_common.users.account_details import details_document, find_details, find_sessions
from safevideo_common.users.directory import (
    AccountFilter,
    AccountState,
    ListedAccount,
    find_accounts,
    summary_document,
)
from safevideo_common.users.rights import Act, RoleGrant, UserRights
from safevideo_common.users.role_grants import PendingGrant, RoleGrants, find_pending, grant_document

_DURATION: Final = re.compile(r"(?P<number>[0-9]{1,4})(?P<unit>[hd])")
_DEFAULT_REASON: Final = "by command"


def _parse_until(text: str) -> datetime:
    """Return a time with its zone, or one that far from now for `8h` or `3d`. Raise `typer.BadParameter`."""
    if match := _DURATION.fullmatch(text):
        number = int(match["number"])
        return utc_now() + (timedelta(days=number) if match["unit"] == "d" else timedelta(hours=number))
    return parse_timestamp(text)


Who = Annotated[
    str,
    typer.Argument(metavar="WHO", help="The id of an account, its e-mail, its user name, or its id at Sharegram."),
]
Why = Annotated[str, typer.Option("--reason", help="Such as the number of a ticket. No personal data: it is audited.")]
Version = Annotated[
    int | None, typer.Option("--version", min=0, help="Only if the account still has this version, as `show` has it.")
]
Until = Annotated[
    datetime | None,
    typer.Option("--until", parser=_parse_until, metavar="TIME", help="The end of the role: a time, or 8h, 3d."),
]


def list_accounts(
    search: Annotated[
        str | None,
        typer.Option("--search", help="An id, an e-mail, a user name, an id of Sharegram, or an identity's subject."),
    ] = None,
    role: Annotated[Role | None, typer.Option("--role", help="Accounts to which this role was given.")] = None,
    state: Annotated[AccountState | None, typer.Option("--state", help="Accounts in this state.")] = None,
    merged: Annotated[bool | None, typer.Option("--merged/--not-merged", help="Whether others are part of it.")] = None,
    is_held: Annotated[bool | None, typer.Option("--held/--not-held", help="Whether a legal hold names it.")] = None,
    after: After = None,
    limit: Limit = 20,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Show accounts, the newest first, and the roles that wait for somebody's first sign-in."""
    found, total, pending = asyncio.run(_list(AccountFilter(search, role, state, merged, is_held), after, limit))
    if as_json:
        documents = [summary_document(each) for each in found]
        print_json({"accounts": documents, "total": total, "grants": [grant_document(each) for each in pending]})
        return
    columns = ("id", "e-mail", "role", "own role", "until", "state", "sharegram id", "version", "last sign-in")
    print_table(columns, map(_row, found), only_wide={"sharegram id", "version", "last sign-in"}, wide=wide)
    print_lines(
        f"{len(found)} of {total}." + (f" Go on with --after {found[-1].user.id}" if len(found) == limit else "")
    )
    if pending:
        print_lines("\nWaiting for a first sign-in:")
        print_table(("e-mail", "role", "until", "granted by", "ends (UTC)"), map(_pending_row, pending))


def show(who: Who, as_json: AsJson = False) -> None:
    """Show one account: identities, sessions, holds, orders, KYC requests, and each change of rights."""
    document = asyncio.run(_show(who))
    if as_json:
        print_json(document)
    else:
        print_yaml(document)


def grant(
    who: Who,
    role: Annotated[Role, typer.Option("--role", help="What the person may do.")],
    until: Until = None,
    reason: Why = _DEFAULT_REASON,
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Give an account a role. For an e-mail without an account the role waits a week for the first sign-in."""
    done = asyncio.run(_grant(who, RoleGrant(role, until), reason, version))
    _print(done, as_json=as_json, note="Nobody has signed in with this e-mail yet: the role waits for it.")


def revoke(who: Who, reason: Why = _DEFAULT_REASON, version: Version = None, as_json: AsJson = False) -> None:
    """Take the role of an account back: it is `performer` then. Or revoke a role that waits for a first sign-in."""
    _print(asyncio.run(_revoke(who, reason, version)), as_json=as_json)


def suspend(who: Who, reason: Why, version: Version = None, as_json: AsJson = False) -> None:
    """Suspend an account: its sessions end within a second, and nobody can sign in."""
    _print(asyncio.run(_act(who, reason, version, lambda rights, act: rights.suspend(act))), as_json=as_json)


def reinstate(who: Who, reason: Why, version: Version = None, as_json: AsJson = False) -> None:
    """End the suspension of an account."""
    _print(asyncio.run(_act(who, reason, version, lambda rights, act: rights.reinstate(act))), as_json=as_json)


def end_sessions(who: Who, reason: Why = _DEFAULT_REASON, version: Version = None, as_json: AsJson = False) -> None:
    """End all sessions of an account. Its person can sign in again."""
    _print(asyncio.run(_act(who, reason, version, lambda rights, act: rights.end_sessions(act))), as_json=as_json)


async def _list(
    matching: AccountFilter, after: int | None, limit: int
) -> tuple[list[ListedAccount], int, list[PendingGrant]]:
    async with open_database() as database, database.read_connection() as reading:
        found, total = await find_accounts(reading, matching, utc_now(), page=1, limit=limit, after=after)
        return list(found), total, list(await find_pending(reading, utc_now()))


async def _show(who: str) -> dict[str, object]:
    from safevideo_cli.sessions import open_sessions

    async with open_database() as database, open_sessions() as sessions:
        user_id = await _account_id(database, who)
        async with database.read_connection() as reading:
            details = await find_details(reading, user_id, utc_now())
            holds = await active_holds(reading, details.person)
        found = await find_sessions(sessions, details)
    return {**details_document(details, found), "holds": [hold_document(each) for each in holds]}


async def _grant(who: str, role: RoleGrant, reason: str, version: int | None) -> ListedAccount | PendingGrant:
    operator = caller()
    async with open_database() as database:
        grants = RoleGrants(database, utc_now)
        if "@" in who and await grants.account_of_email(who) is None:
            pending = await grants.add(who, role, reason, operator)
            log_action("Role waits for a first sign-in", operator, grant=pending.id, role=role.role)
            return pending
    return await _act(who, reason, version, lambda rights, act: rights.set_role(act, role), by_email=True)


async def _revoke(who: str, reason: str, version: int | None) -> ListedAccount | PendingGrant:
    operator = caller()
    async with open_database() as database:
        grants = RoleGrants(database, utc_now)
        if "@" in who and await grants.account_of_email(who) is None:
            pending = await grants.revoke(who, reason, operator)
            log_action("Waiting role revoked", operator, grant=pending.id)
            return pending
    lowest = RoleGrant(Role.PERFORMER)
    return await _act(who, reason, version, lambda rights, act: rights.set_role(act, lowest), by_email=True)


async def _act(
    who: str,
    reason: str,
    version: int | None,
    run: Callable[[UserRights, Act], Awaitable[ListedAccount]],
    *,
    by_email: bool = False,
) -> ListedAccount:
    operator = caller()
    async with open_database() as database:
        user_id = await _account_id(database, who, is_grant=by_email)
        listed = await run(UserRights(database, utc_now), Act(user_id, operator, reason, version))
    log_action("Rights of an account decided", operator, user=user_id, role=listed.whole.role, state=listed.state)
    return listed


async def _account_id(database: Database, who: str, *, is_grant: bool = False) -> int:
    """Return the account that `who` names. Raises `UserNotFound`, and `UserMappingConflict` if several are named."""
    if who.isascii() and who.isdigit() and len(who) < 19:
        return int(who)
    if is_grant and "@" in who:
        account = await RoleGrants(database, utc_now).account_of_email(who)
        if account is not None:
            return account.id
    async with database.read_connection() as reading:
        found, _ = await find_accounts(reading, AccountFilter(search=who), utc_now(), page=1, limit=10)
    if not found:
        raise UserNotFound("There is no such user.")
    if len(found) > 1:
        names = ", ".join(str(each.user.id) for each in found)
        raise UserMappingConflict(f"Several accounts are meant: {names}. Name one by its id.")
    return found[0].user.id


def _row(listed: ListedAccount) -> tuple[str, ...]:
    document = summary_document(listed)
    own = "" if document["ownRole"] == document["role"] else document["ownRole"]
    until = format_second(listed.user.role_ends_at) if document["roleEndsAt"] else ""
    return (
        str(document["id"]),
        document["email"] or "",
        document["role"],
        own,
        until,
        document["state"],
        document["sharegramId"] or "",
        str(document["version"]),
        format_second(listed.user.last_sign_in_at),
    )


def _pending_row(pending: PendingGrant) -> tuple[str, ...]:
    until = format_second(pending.grant.ends_at) if pending.grant.ends_at else ""
    return pending.email, pending.grant.role, until, pending.granted_by, format_second(pending.expires_at)


def _print(done: ListedAccount | PendingGrant, *, as_json: bool, note: str = "") -> None:
    document = dict(grant_document(done) if isinstance(done, PendingGrant) else summary_document(done))
    if as_json:
        print_json(document)
    else:
        print_yaml(document)
        if note and isinstance(done, PendingGrant):
            print_lines(note)
