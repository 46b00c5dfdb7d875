"""`safevideo webhook secrets`: what signs webhooks, and when each was last used."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import typer
from pydantic import Field, SecretStr
from rich.box import SIMPLE_HEAD
from rich.table import Table

from safevideo_cli.database import opened_database
from safevideo_cli.output import AsJson, minute, print_json, print_table
from safevideo_common.clock import format_timestamp, utc_now
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.errors import StartupError
from safevideo_common.settings import DatabaseSettings, load_settings
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_common.webhooks.secrets import SecretRow
from safevideo_common.webhooks.signatures import environment_secrets

app = typer.Typer(help="Webhooks from Sharegram.", no_args_is_help=True)


@app.callback()
def webhook() -> None:
    """Webhooks from Sharegram."""


@app.command()
def secrets(as_json: AsJson = False) -> None:
    """Show the secrets that webhooks are signed with, and when each was last used; never a secret itself.

    One that has not been used since the provider was told to sign with another may be retired. Uses are noted within
    a minute or two. A secret of the environment is known by its name in the log (`key=env-…`).
    """
    environment = _names_in_environment()
    shown = _merged(asyncio.run(_stored()), environment)
    if as_json:
        print_json([_document(secret) for secret in shown])
    else:
        print_table(_table(shown))


@dataclass(frozen=True, slots=True)
class _Shown:
    name: str
    source: str
    state: str
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class _Settings(DatabaseSettings):
    sharegram_webhook_secret: SecretStr | None = Field(None, description="As for webhook-ingest.")


def _names_in_environment() -> Sequence[str]:
    """In the order of the setting. Raises `StartupError` for one that webhook-ingest would not start with either."""
    setting = load_settings(_Settings).sharegram_webhook_secret
    if setting is None:
        return ()
    try:
        return [secret.name for secret in environment_secrets(setting.get_secret_value())]
    except ValueError as error:
        raise StartupError(f"SHAREGRAM_WEBHOOK_SECRET: {error}.") from None


async def _stored() -> Sequence[SecretRow]:
    async with opened_database() as database, database.reading() as connection:
        return await webhook_secrets.listed(connection, SHAREGRAM)


def _merged(stored: Sequence[SecretRow], environment: Sequence[str]) -> list[_Shown]:
    """Those kept in the database, those given here, then those that some process was given at some time."""
    now = utc_now()
    known = {secret.name: secret for secret in stored}
    kept = [_kept(secret, now) for secret in stored if secret.is_kept_here]
    here = [_of_environment(name, "valid", known.get(name)) for name in environment]
    elsewhere = [secret for secret in stored if not secret.is_kept_here and secret.name not in environment]
    return kept + here + [_of_environment(secret.name, "not given here", secret) for secret in elsewhere]


def _kept(secret: SecretRow, now: datetime) -> _Shown:
    state = "valid" if secret.is_valid(now) else "expired"
    return _Shown(secret.name, "database", state, secret.expires_at, secret.last_used_at)


def _of_environment(name: str, state: str, noted: SecretRow | None) -> _Shown:
    return _Shown(name, "environment", state, None, noted.last_used_at if noted else None)


def _document(secret: _Shown) -> dict[str, object]:
    return {
        "name": secret.name,
        "source": secret.source,
        "state": secret.state,
        "expiresAt": format_timestamp(secret.expires_at),
        "lastUsedAt": format_timestamp(secret.last_used_at),
    }


def _table(shown: Sequence[_Shown]) -> Table:
    table = Table("name", "from", "state", "expires (UTC)", "last used", box=SIMPLE_HEAD)
    for secret in shown:
        moments = minute(secret.expires_at), minute(secret.last_used_at)
        table.add_row(secret.name, secret.source, secret.state, *moments)
    return table
