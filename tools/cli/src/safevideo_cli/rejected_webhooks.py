"""`safevideo webhook rejected` and `reverify`: the webhooks in the quarantine, and their release.

The list is read from the database. A release is a request to the gateway, which has the key that decrypts bodies.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import orjson
import typer
from aiohttp import ClientError, ClientSession, ClientTimeout
from pydantic import SecretStr

from safevideo_cli.environment import open_database
from safevideo_cli.options import After, AsJson, From, Limit, Page, SortOrder, To, Wide
from safevideo_cli.output import format_second, print_json, print_lines, print_table, print_yaml
from safevideo_common.errors import NotFound, StartupError
from safevideo_common.quarantine import queries as quarantine_queries
from safevideo_common.quarantine.queries import RejectedFilter, RejectedRecord, rejected_document
from safevideo_common.settings import ProcessSettings, load_settings

GATEWAY_SECONDS: Final = 60.0
"""A run of the gateway stops by itself after 25 s."""

rejected = typer.Typer(no_args_is_help=True)


@rejected.callback()
def inspect() -> None:
    """Inspect the webhooks that were refused because of their signature and are kept. Never their bodies."""


@rejected.command(name="list")
def list_rejected(
    reason: Annotated[str | None, typer.Option(help="Such as signature_mismatch.")] = None,
    is_released: Annotated[
        bool | None, typer.Option("--released/--waiting", help="Released ones, or those that wait. Default: both.")
    ] = None,
    received_from: From = None,
    received_to: To = None,
    page: Page = 1,
    after: After = None,
    limit: Limit = 20,
    order: Annotated[SortOrder, typer.Option(help="By time of receipt.")] = SortOrder.DESC,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Show the refused webhooks that match, the newest first, and why each was refused."""
    matching = RejectedFilter(reason, is_released, received_from, received_to)
    records, total = asyncio.run(_find(matching, page, limit, order, after))
    if as_json:
        print_json({"rejected": list(map(rejected_document, records)), "total": total})
        return
    rows = (
        (
            str(each.row_id), rejected_document(each)["eventId"] or "", str(each.times_seen), each.remote,
            format_second(each.received_at), "released" if each.released_at else "waits", each.reason,
        )
        for each in records
    )  # fmt: skip
    columns = ("id", "event", "times", "from", "received (UTC)", "state")
    print_table(columns, rows, sentence="reason", only_wide=("event", "times"), wide=wide)
    print_lines(f"{len(records)} of {total}. To check them again: safevideo webhook reverify")


@rejected.command()
def show(
    row_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=10**18 - 1, help="As `list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Show one refused webhook, without its body and its signature."""
    document = rejected_document(asyncio.run(_get(row_id)))
    if as_json:
        print_json(document)
    else:
        print_yaml(document)


def reverify(
    secret_file: Annotated[
        typer.FileBinaryRead | None,
        typer.Option("--secret-from", metavar="FILE", help="Try the secret in this file instead; - for stdin."),
    ] = None,
    row_ids: Annotated[list[int] | None, typer.Option("--id", min=1, help="Only this one; may be repeated.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Release those whose signature is valid now.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the signatures of refused webhooks again, with the secrets that are valid now. Needs the gateway.

    Without --yes nothing is released. With it, those that are valid now are published in the order in which they
    came. It may be repeated. Needs SAFEVIDEO_GATEWAY_URL, SAFEVIDEO_API_CLIENT and SAFEVIDEO_API_KEY (role admin).
    """
    body: dict[str, object] = {"dryRun": not yes}
    if secret_file is not None:
        body["secret"] = secret_file.read().strip().decode(errors="replace")
    if row_ids:
        body["ids"] = row_ids
    report = asyncio.run(_reverify(body))
    if as_json:
        print_json(report)
    else:
        _print_report(report, is_dry=not yes)


class _GatewaySettings(ProcessSettings):
    """Address and key of the gateway."""

    safevideo_gateway_url: str
    safevideo_api_client: str
    safevideo_api_key: SecretStr


async def _reverify(body: Mapping[str, object]) -> Mapping[str, object]:
    """Return the gateway's report. Raises `StartupError` with the error that it answers."""
    settings = load_settings(_GatewaySettings)
    url = f"{settings.safevideo_gateway_url.rstrip('/')}/api/v1/admin/webhooks/rejected/reverify"
    headers = {
        "X-API-Client": settings.safevideo_api_client,
        "X-API-Key": settings.safevideo_api_key.get_secret_value(),
    }
    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=GATEWAY_SECONDS)) as session,
            session.post(url, data=orjson.dumps(body), headers=headers) as response,
        ):
            answer = orjson.loads(await response.read())
    except (ClientError, TimeoutError, orjson.JSONDecodeError) as error:
        raise StartupError(f"The gateway at {settings.safevideo_gateway_url} does not answer: {error!r}.") from None
    if refusal := answer.get("error"):
        details = "".join(f"\n  {name}: {reason}" for name, reason in (refusal.get("details") or {}).items())
        raise StartupError(f"{refusal['code']}: {refusal['message']}{details}")
    report: Mapping[str, object] = answer["data"]
    return report


def _print_report(report: Mapping[str, object], *, is_dry: bool) -> None:
    outcomes = report["verdicts"]
    assert isinstance(outcomes, dict)
    rows = ((str(each["count"]), reason, _some(each["ids"])) for reason, each in outcomes.items())
    print_table(("webhooks", "result"), rows, sentence="ids")
    valid = outcomes.get("holds", {"count": 0})["count"]
    if is_dry:
        print_lines(f"{valid} of {report['checked']} are valid now; nothing was released. To release them: --yes")
    else:
        print_lines(f"{report['released']} of {report['checked']} are released; the workers process them now.")
    if not report["complete"]:
        print_lines("There are more: run it again.")


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:10])) + (" …" if len(ids) > 10 else "")


async def _find(
    matching: RejectedFilter, page: int, limit: int, order: SortOrder, after: int | None
) -> tuple[Sequence[RejectedRecord], int]:
    async with open_database() as database, database.read_connection() as connection:
        return await quarantine_queries.find(
            connection, matching, page=page, limit=limit, order=order.value, after=after
        )


async def _get(row_id: int) -> RejectedRecord:
    async with open_database() as database, database.read_connection() as connection:
        record = await quarantine_queries.get(connection, row_id)
    if record is None:
        raise NotFound(f"There is no webhook {row_id} in the quarantine; see: safevideo webhook rejected list")
    return record
