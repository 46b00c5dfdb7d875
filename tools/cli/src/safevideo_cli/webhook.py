"""`safevideo webhook secrets`: what signs webhooks, and when each was last used."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import typer
from pydantic import Field, SecretStr

from safevideo_cli.environment import open_database
from safevideo_cli.options import AsJson
from safevideo_cli.output import format_minute, print_json, print_table
from safevideo_common.clock import format_timestamp, utc_now
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.errors import StartupError
from safevideo_common.settings import DatabaseSettings, load_settings
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_common.webhooks.secrets import SecretRow
from safevideo_common.webhooks.signatures import environment_secrets

app = typer.Typer(no_args_is_help=True)


@app.callback()
def webhook() -> None:
    """Inspect the secrets that sign webhooks."""


@app.command()
def secrets(as_json: AsJson = False) -> None:
    """Show the secrets that sign webhooks, and when each was last used; never a secret itself.

    After Sharegram has changed to a new secret, an old one without further use may be retired. A use is recorded
    within two minutes. Logs name a secret of the environment the same way (`key=env-…`).
    """
    secrets = _merge(asyncio.run(_stored()), _names_in_environment())
    if as_json:
        print_json([_document(secret) for secret in secrets])
    else:
        rows = (
            (each.name, each.source, each.state, format_minute(each.expires_at), format_minute(each.last_used_at))
            for each in secrets
        )
        print_table(("name", "from", "state", "expires (UTC)", "last used"), rows)


@dataclass(frozen=True, slots=True)
class _Secret:
    name: str
    source: str
    state: str
    expires_at: datetime | None = None
    last_used_at: datetime | None = None


class _Settings(DatabaseSettings):
    sharegram_webhook_secret: SecretStr | None = Field(None, description="As for webhook-ingest.")


def _names_in_environment() -> Sequence[str]:
    """Return the names in the setting's order. Raise `StartupError` for a secret that webhook-ingest refuses too."""
    setting = load_settings(_Settings).sharegram_webhook_secret
    if setting is None:
        return ()
    try:
        return [secret.name for secret in environment_secrets(setting.get_secret_value())]
    except ValueError as error:
        raise StartupError(f"SHAREGRAM_WEBHOOK_SECRET: {error}.") from None


async def _stored() -> Sequence[SecretRow]:
    async with open_database() as database, database.read_connection() as connection:
        return await webhook_secrets.find_all(connection, SHAREGRAM)


def _merge(stored: Sequence[SecretRow], environment: Sequence[str]) -> list[_Secret]:
    """Return the database's secrets, those of this environment, and those that only another process has used."""
    now = utc_now()
    by_name = {secret.name: secret for secret in stored}
    in_database = [
        _Secret(row.name, "database", "valid" if row.is_valid(now) else "expired", row.expires_at, row.last_used_at)
        for row in stored
        if row.is_stored
    ]
    here = [_of_environment(name, "valid", by_name.get(name)) for name in environment]
    elsewhere = [row for row in stored if not row.is_stored and row.name not in environment]
    return in_database + here + [_of_environment(row.name, "not given here", row) for row in elsewhere]


def _of_environment(name: str, state: str, row: SecretRow | None) -> _Secret:
    return _Secret(name, "environment", state, None, row.last_used_at if row else None)


def _document(secret: _Secret) -> dict[str, object]:
    return {
        "name": secret.name,
        "source": secret.source,
        "state": secret.state,
        "expiresAt": format_timestamp(secret.expires_at),
        "lastUsedAt": format_timestamp(secret.last_used_at),
    }
