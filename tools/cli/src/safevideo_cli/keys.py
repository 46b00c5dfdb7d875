"""`safevideo keys generate|list|revoke`: keys of the systems that call our API."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from safevideo_cli.database import opened_database
from safevideo_cli.output import AsJson, minute, people, print_json, print_table
from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import CLIENT_NAME, ApiKey, Role
from safevideo_common.clock import format_timestamp, rfc3339, utc_now
from safevideo_common.errors import NotFound

MOST_DAYS: Final = 3650

app = typer.Typer(help="Keys of the systems that call our API.", no_args_is_help=True)


def _client_name(name: str) -> str:
    if not CLIENT_NAME.fullmatch(name):
        raise typer.BadParameter("1 to 64 letters, digits, dots, hyphens and underscores")
    return name


Client = Annotated[
    str, typer.Argument(metavar="CLIENT", callback=_client_name, help="Name that the system sends as X-API-Client.")
]
KeyId = Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="As `safevideo keys list` shows it.")]
Days = Annotated[int | None, typer.Option("--days", min=1, max=MOST_DAYS, help="It opens nothing after so many days.")]


@app.command()
def generate(
    client: Client,
    role: Annotated[Role, typer.Option(help="What the system may do.")] = Role.USER,
    days: Days = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it, this once: only its hash is kept."""
    expires_at = None if days is None else utc_now() + timedelta(days=days)
    key = asyncio.run(_generate(client, role, expires_at))
    if as_json:
        print_json({"client": client, "key": key, "role": role, "expiresAt": format_timestamp(expires_at)})
    else:
        people.print(f"X-API-Client: {client}\nX-API-Key: {key}")


@app.command(name="list")
def list_keys(as_json: AsJson = False) -> None:
    """Show all keys, those that open nothing any more included. A key itself cannot be shown again."""
    keys = asyncio.run(_all())
    if as_json:
        print_json([_document(key) for key in keys])
    else:
        print_table(_table(keys))


@app.command()
def revoke(key_id: KeyId, as_json: AsJson = False) -> None:
    """Let a key open nothing any more. Processes that have just seen it forget it within seconds."""
    asyncio.run(_revoke(key_id))
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        people.print(f"Key {key_id} is revoked.")


async def _generate(client: str, role: Role, expires_at: datetime | None) -> str:
    async with opened_database() as database, database.transaction() as tx:
        return await api_keys.create(tx, client, role, utc_now(), expires_at)


async def _all() -> list[ApiKey]:
    async with opened_database() as database, database.reading() as connection:
        return await api_keys.all_keys(connection)


async def _revoke(key_id: int) -> None:
    async with opened_database() as database, database.transaction() as tx:
        if not await api_keys.revoke(tx, key_id, utc_now()):
            raise NotFound(f"There is no key {key_id} that could be revoked; see: safevideo keys list")


def _document(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "client": key.client,
        "role": key.role,
        "valid": key.is_valid(utc_now()),
        "createdAt": rfc3339(key.created_at),
        "expiresAt": format_timestamp(key.expires_at),
        "lastUsedAt": format_timestamp(key.last_used_at),
        "revokedAt": format_timestamp(key.revoked_at),
    }


def _table(keys: Sequence[ApiKey]) -> Table:
    table = Table("id", "client", "role", "opens", "created (UTC)", "last used", box=SIMPLE_HEAD)
    for key in keys:
        moments = minute(key.created_at), minute(key.last_used_at)
        table.add_row(str(key.id), key.client, key.role, _state(key), *moments)
    return table


def _state(key: ApiKey) -> str:
    if key.is_valid(utc_now()):
        return f"until {minute(key.expires_at)}" if key.expires_at else "yes"
    return "no: revoked" if key.revoked_at else "no: expired"
