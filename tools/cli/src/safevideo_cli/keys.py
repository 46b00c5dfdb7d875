"""`safevideo keys generate|list|rotate|revoke`: the API keys of systems that call our API."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Final

import typer

from safevideo_cli.environment import caller, log_action, open_database
from safevideo_cli.options import AsJson
from safevideo_cli.output import format_second, print_json, print_lines, print_table
from safevideo_common.audit import store as audit_store
from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import CLIENT_NAME, ApiKey, Role, RotatedKey
from safevideo_common.clock import format_timestamp, rfc3339, utc_now
from safevideo_common.errors import NotFound

MAX_DAYS: Final = 3650
MAX_OVERLAP_HOURS: Final = 24 * 90

GENERATED: Final = "keys.generated"
ROTATED: Final = "keys.rotated"
REVOKED: Final = "keys.revoked"

app = typer.Typer(no_args_is_help=True)


def _client_name(name: str) -> str:
    if not CLIENT_NAME.fullmatch(name):
        raise typer.BadParameter("1 to 64 letters, digits, dots, hyphens and underscores")
    return name


Client = Annotated[
    str, typer.Argument(metavar="CLIENT", callback=_client_name, help="Name that the system sends as X-API-Client.")
]
KeyId = Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="As `safevideo keys list` shows it.")]
Days = Annotated[int | None, typer.Option("--days", min=1, max=MAX_DAYS, help="Days until the key expires.")]


@app.command()
def generate(
    client: Client,
    role: Annotated[Role, typer.Option(help="What the system may do.")] = Role.USER,
    days: Days = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and show it once: only its hash is stored."""
    expires_at = None if days is None else utc_now() + timedelta(days=days)
    key = asyncio.run(_generate(client, role, expires_at))
    if as_json:
        print_json({"client": client, "key": key, "role": role, "expiresAt": format_timestamp(expires_at)})
    else:
        print_lines(f"X-API-Client: {client}", f"X-API-Key: {key}")


@app.command(name="list")
def list_keys(as_json: AsJson = False) -> None:
    """Show all keys, also expired and revoked ones. A key itself cannot be shown again."""
    keys = asyncio.run(_list())
    if as_json:
        print_json([_document(key) for key in keys])
    else:
        rows = (
            (
                str(key.id),
                key.client,
                key.role,
                _state(key),
                format_second(key.created_at),
                format_second(key.last_used_at),
            )
            for key in keys
        )
        print_table(("id", "client", "role", "active", "created (UTC)", "last used"), rows)


@app.command()
def rotate(
    key_id: KeyId,
    overlap_hours: Annotated[
        int, typer.Option("--overlap-hours", min=0, max=MAX_OVERLAP_HOURS, help="Hours that the old key stays valid.")
    ] = 24,
    as_json: AsJson = False,
) -> None:
    """Create a key with the same client, role and lifetime, and show it once. The old one expires after the overlap."""
    rotated = asyncio.run(_rotate(key_id, timedelta(hours=overlap_hours)))
    if as_json:
        print_json({**_document(rotated.key), "key": rotated.secret, "oldExpiresAt": rfc3339(rotated.old_expires_at)})
    else:
        print_lines(f"X-API-Client: {rotated.key.client}", f"X-API-Key: {rotated.secret}")
        print_lines(f"Key {key_id} expires at {format_second(rotated.old_expires_at)} UTC.")


@app.command()
def revoke(key_id: KeyId, as_json: AsJson = False) -> None:
    """Revoke a key. Processes that have cached it accept it for some more seconds."""
    asyncio.run(_revoke(key_id))
    if as_json:
        print_json({"id": key_id, "revoked": True})
    else:
        print_lines(f"Key {key_id} is revoked.")


async def _generate(client: str, role: Role, expires_at: datetime | None) -> str:
    operator = caller()
    async with open_database() as database, database.transaction() as tx:
        secret = await api_keys.create(tx, client, role, utc_now(), expires_at)
        key = await api_keys.find(tx, client, secret, utc_now())
        assert key is not None
        details = {"keyId": key.id, "client": client, "role": role, "expiresAt": format_timestamp(expires_at)}
        await audit_store.record(tx, operator.entry(GENERATED, utc_now, details, f"key:{key.id}"))
    log_action("API key generated", operator, key_id=key.id, client=client, role=role)
    return secret


async def _rotate(key_id: int, overlap: timedelta) -> RotatedKey:
    operator = caller()
    async with open_database() as database, database.transaction() as tx:
        rotated = await api_keys.rotate(tx, key_id, utc_now(), overlap)
        if rotated is None:
            raise NotFound(f"There is no key {key_id} that outlives the overlap; see: safevideo keys list")
        details = {
            "keyId": key_id,
            "client": rotated.key.client,
            "role": rotated.key.role,
            "newKeyId": rotated.key.id,
            "expiresAt": rfc3339(rotated.old_expires_at),
        }
        await audit_store.record(tx, operator.entry(ROTATED, utc_now, details, f"key:{key_id}"))
    log_action("API key rotated", operator, key_id=key_id, new_key_id=rotated.key.id, client=rotated.key.client)
    return rotated


async def _list() -> list[ApiKey]:
    async with open_database() as database, database.read_connection() as connection:
        return await api_keys.all_keys(connection)


async def _revoke(key_id: int) -> None:
    operator = caller()
    async with open_database() as database, database.transaction() as tx:
        key = await api_keys.get(tx, key_id)
        if key is None or not await api_keys.revoke(tx, key_id, utc_now()):
            raise NotFound(f"There is no key {key_id} that could be revoked; see: safevideo keys list")
        was = "valid" if key.is_valid(utc_now()) else "expired"
        details = {"keyId": key_id, "client": key.client, "role": key.role, "was": was, "now": "revoked"}
        await audit_store.record(tx, operator.entry(REVOKED, utc_now, details, f"key:{key_id}"))
    log_action("API key revoked", operator, key_id=key_id, client=key.client)


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


def _state(key: ApiKey) -> str:
    if key.is_valid(utc_now()):
        return f"until {format_second(key.expires_at)}" if key.expires_at else "yes"
    return "no: revoked" if key.revoked_at else "no: expired"
