"""`safevideo webhook register|secrets|spools|rejected|reverify`: where webhooks come, what signs them, what waits."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from pydantic import Field, SecretStr

from safevideo_cli.environment import caller, log_action, open_database
from safevideo_cli.options import AsJson
from safevideo_cli.output import format_second, print_json, print_lines, print_table
from safevideo_cli.rejected_webhooks import rejected, reverify
from safevideo_cli.spools import spools
from safevideo_common.audit import store as audit
from safevideo_common.clock import format_timestamp, utc_now
from safevideo_common.database import integrations
from safevideo_common.database.integrations import SHAREGRAM
from safevideo_common.encryption import EncryptionKeys, Purpose
from safevideo_common.errors import InvalidStatusTransition, NotFound, StartupError
from safevideo_common.settings import DatabaseSettings, ProcessSettings, load_settings
from safevideo_common.webhooks import secrets as webhook_secrets
from safevideo_common.webhooks.secrets import SecretRow
from safevideo_common.webhooks.signatures import environment_secrets
from safevideo_common.webhooks.signatures.secret import WebhookSecret

if TYPE_CHECKING:
    from safevideo_common.sharegram.operations import RegisteredWebhook

REGISTER_SECONDS: Final = 30.0

app = typer.Typer(no_args_is_help=True)
app.add_typer(rejected, name="rejected")
app.command()(reverify)
app.add_typer(spools, name="spools")


@app.callback()
def webhook() -> None:
    """Register our endpoint at Sharegram; manage the secrets that sign webhooks; release refused webhooks."""


@app.command()
def register(
    url: Annotated[str, typer.Argument(metavar="URL", help="Public https:// address of POST /webhooks/sharegram.")],
    event: Annotated[list[str] | None, typer.Option("--event", help="A type to send; repeat it. Default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell Sharegram where to send webhooks. It is sent once; after a failure, run it again.

    Needs SHAREGRAM_API_URL, SHAREGRAM_API_KEY, SHAREGRAM_SECRET_KEY and DATABASE_URL. The action is audited.
    """
    registered = asyncio.run(_register(url, event))
    if as_json:
        print_json({"webhookId": registered.webhook_id, "url": registered.url, "events": registered.events})
    else:
        types = "all types" if registered.events is None else ", ".join(registered.events)
        print_lines(f"Sharegram sends {types} to {registered.url} ({registered.webhook_id}).")


async def _register(url: str, events: Sequence[str] | None) -> "RegisteredWebhook":
    from safevideo_cli.sharegram import open_client
    from safevideo_common.protections.webhook_registration import WebhookRegistration
    from safevideo_common.sharegram.operations import SharegramCaller

    who = caller()
    only_https = load_settings(ProcessSettings).safevideo_env == "production"
    async with open_client() as (sharegram, database, _):
        origin = SharegramCaller.api(who.request_id, seconds=REGISTER_SECONDS)
        registration = WebhookRegistration(database, sharegram, utc_now, only_https=only_https)
        return await registration.register(url, events, who, origin)


secrets_app = typer.Typer()
app.add_typer(secrets_app, name="secrets")


@secrets_app.callback(invoke_without_command=True)
def secrets(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the secrets that sign webhooks, and when each was last used; never a secret itself.

    After Sharegram has changed to a new secret, an old one without further use may be retired. A use is recorded
    within two minutes. Logs name a secret of the environment the same way (`key=env-…`).
    """
    if context.invoked_subcommand:
        return
    secrets = _merge(asyncio.run(_stored()), _names_in_environment())
    if as_json:
        print_json([_document(secret) for secret in secrets])
    else:
        rows = (
            (each.name, each.source, each.state, format_second(each.expires_at), format_second(each.last_used_at))
            for each in secrets
        )
        print_table(("name", "from", "state", "expires (UTC)", "last used"), rows)


@secrets_app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name for logs, such as 2026-11.")],
    from_file: Annotated[
        typer.FileBinaryRead, typer.Option("--from", metavar="FILE", help="Where the secret is; - for stdin.")
    ],
) -> None:
    """Store a secret, encrypted with ENCRYPTION_KEY. Each webhook-ingest accepts it within seconds, without a restart.

    The secret is read from a file or from stdin: an argument would be in the list of processes. The others stay valid.
    """
    key = from_file.read().strip()
    if not webhook_secrets.NAME.fullmatch(name):
        raise typer.BadParameter("a name is 1 to 64 lower-case letters, digits, dots, hyphens and underscores")
    try:
        WebhookSecret(name, key)
    except ValueError as error:
        raise typer.BadParameter(f"the secret is not valid: {error}") from None
    asyncio.run(_add(name, key))
    print_lines(f"The secret {name} is stored. webhook-ingest accepts it within seconds.")


@secrets_app.command()
def retire(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `secrets` shows it.")],
) -> None:
    """Let a stored secret expire now. One of the environment needs a restart without it."""
    asyncio.run(_retire(name))
    print_lines(f"The secret {name} is not valid any more.")


async def _add(name: str, key: bytes) -> None:
    setting, operator = load_settings(_CipherSettings).encryption_key, caller()
    if setting is None:
        raise StartupError("ENCRYPTION_KEY is not set; it must be the key of webhook-ingest.")
    cipher = EncryptionKeys.parse(setting.get_secret_value()).cipher(Purpose.WEBHOOK_SECRET)
    ciphertext, now = cipher.encrypt(key, webhook_secrets.encryption_row(SHAREGRAM, name)), utc_now()
    async with open_database() as database, database.transaction() as tx:
        integration_id = await integrations.ensure(tx, SHAREGRAM, now)
        await integrations.lock(tx, integration_id)
        found = await webhook_secrets.find_all(tx, SHAREGRAM)
        if any(row.name == name for row in found):
            raise InvalidStatusTransition(f"There is a secret {name}; choose another name.")
        if sum(row.is_stored and row.is_valid(now) for row in found) >= webhook_secrets.MAX_VALID:
            raise InvalidStatusTransition(f"There are {webhook_secrets.MAX_VALID} valid secrets; retire one first.")
        await webhook_secrets.add(tx, integration_id, name, ciphertext, now)
        await audit.record(tx, operator.entry("webhooks.secret_added", utc_now, {"name": name}))
    log_action("Webhook secret added", operator, key=name)


async def _retire(name: str) -> None:
    operator, now = caller(), utc_now()
    async with open_database() as database, database.transaction() as tx:
        integration_id = await integrations.ensure(tx, SHAREGRAM, now)
        if not await webhook_secrets.retire(tx, integration_id, name, now):
            raise NotFound(f"There is no valid stored secret {name}; see: safevideo webhook secrets")
        await audit.record(tx, operator.entry("webhooks.secret_retired", utc_now, {"name": name}))
    log_action("Webhook secret retired", operator, key=name)


class _CipherSettings(DatabaseSettings):
    encryption_key: SecretStr | None = Field(None, description="As for webhook-ingest.")


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
